# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One process at a time works in a folder, whatever becomes of those before it, and it says who it is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from unit.helpers import wait_for

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import folder_lock
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.folder_lock import (
    LOCK_FILE,
    FolderBusy,
    only_one_in,
)

HOLD = f"""
import sys, time
from {folder_lock.__name__} import only_one_in
with only_one_in(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_whoever_waits_in_vain_is_told_who_is_at_work(tmp_path: Path) -> None:
    other = holder(tmp_path / "new")
    try:
        with pytest.raises(FolderBusy) as caught, only_one_in(str(tmp_path / "new"), timeout=0.3):
            pass
    finally:
        other.kill()
        other.wait()
    assert f"({socket.gethostname()}, pid {other.pid}, since 20" in str(caught.value)


def test_a_killed_process_blocks_nobody(tmp_path: Path) -> None:
    other = holder(tmp_path)
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert str(other.pid) in (tmp_path / LOCK_FILE).read_text()
    with only_one_in(str(tmp_path), timeout=0):
        assert f"pid {os.getpid()}," in (tmp_path / LOCK_FILE).read_text()
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_removed_and_made_anew_without_two_inside(tmp_path: Path) -> None:
    inside, most, rounds = [], [], 40

    def work() -> None:
        for _round in range(rounds):
            with only_one_in(str(tmp_path), timeout=60):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _unused in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 3 * rounds
    assert list(tmp_path.iterdir()) == []


def test_a_lock_on_a_file_that_is_gone_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process removes the file between our opening it and our lock: it must not count."""
    real = folder_lock._locked
    removed: list[str] = []

    def locked(handle: int) -> bool:
        if not removed:
            removed.append(str(os.fstat(handle).st_ino))
            (tmp_path / LOCK_FILE).unlink()
        return real(handle)

    monkeypatch.setattr(folder_lock, "_locked", locked)
    with only_one_in(str(tmp_path), timeout=5):
        assert (tmp_path / LOCK_FILE).exists()


def test_where_there_are_no_locks_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(_handle: int, _operation: int) -> None:
        raise OSError(folder_lock._NO_LOCKS[0], "No locks available")

    monkeypatch.setattr(folder_lock.fcntl, "flock", flock)
    with only_one_in(str(tmp_path)), only_one_in(str(tmp_path)):
        pass


def test_the_lock_is_let_go_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x"), only_one_in(str(tmp_path)):
        raise ValueError("x")
    begin = time.monotonic()
    with only_one_in(str(tmp_path)):
        assert time.monotonic() - begin < 5
    wait_for(lambda: list(tmp_path.iterdir()) == [])
