# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One process at a time works in a folder, and who waits learns for whom."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.folder_lock import FolderBusy, only_one_in

SPAWN = multiprocessing.get_context("spawn")


def hold(folder: Path, held: Event) -> None:
    with only_one_in(str(folder)):
        held.set()
        time.sleep(60)


def count(folder: Path, times: int) -> None:
    """Add to a number in a file as somebody would who is alone."""
    for _unused in range(times):
        with only_one_in(str(folder)):
            number = int((folder / "number").read_text())
            time.sleep(0.001)
            (folder / "number").write_text(str(number + 1))


def test_it_leaves_nothing(tmp_path: Path) -> None:
    with only_one_in(str(tmp_path / "new")):
        assert len(list((tmp_path / "new").iterdir())) == 1
    assert list((tmp_path / "new").iterdir()) == []


def test_who_waits_too_long_learns_for_whom_and_a_killed_one_blocks_nobody(tmp_path: Path) -> None:
    held = SPAWN.Event()
    holder = SPAWN.Process(target=hold, args=(tmp_path, held))
    holder.start()
    assert held.wait(30)
    with pytest.raises(FolderBusy, match=rf"{os.uname().nodename}, pid {holder.pid}, since 20"):
        only_one_in(str(tmp_path), timeout=0.5).__enter__()
    assert holder.pid
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with only_one_in(str(tmp_path), timeout=5):
        pass
    assert list(tmp_path.iterdir()) == []


def test_nobody_works_beside_another(tmp_path: Path) -> None:
    (tmp_path / "number").write_text("0")
    workers = [SPAWN.Process(target=count, args=(tmp_path, 20)) for _unused in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (tmp_path / "number").read_text() == "80"
