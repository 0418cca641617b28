# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits are those of the place where a run would start."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import probe_limits, supervisor_start

LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units
Max processes             96364                96364                processes
Max open files            1024                 524288               files
Max locked memory         8388608              unlimited            bytes
Max address space         unlimited            unlimited            bytes
"""


def test_limits_as_the_kernel_prints_them() -> None:
    assert probe_limits.parse(LIMITS) == {
        "memlock": {"soft": 8388608, "hard": "unlimited"},
        "open_files": {"soft": 1024, "hard": 524288},
        "processes": {"soft": 96364, "hard": 96364},
    }
    assert probe_limits.parse("") == {"memlock": None, "open_files": None, "processes": None}


def test_a_process_has_the_limits_of_this_session() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = probe_limits.read("process")
    assert (found["context"], found["error"]) == ("process", None)
    assert found["open_files"] == {"soft": soft, "hard": hard}


@pytest.fixture
def systemd_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemd-run that keeps its arguments and runs the command, as `--pipe --wait` does, with a limit of its own."""
    program = tmp_path / "systemd-run"
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$XDG_RUNTIME_DIR" "$@" > {tmp_path}/arguments\n'
        "ulimit -S -n 77\n"
        'while [ "${1#--}" != "$1" ]; do shift; done\n'
        'exec "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return program


def test_a_unit_has_the_limits_that_its_manager_gives_it(systemd_run: Path) -> None:
    found = probe_limits.read("systemd")
    assert (found["context"], found["error"], found["open_files"]["soft"]) == ("systemd", None, 77)
    said = (systemd_run.parent / "arguments").read_text()
    assert f"/run/user/{os.geteuid()} " in said
    assert all(f"--property={limit} " in said for limit in supervisor_start.LIMITS)
    assert "--wait" in said
    assert "--property=RuntimeMaxSec=" in said
    assert ("--user" in said) == (os.geteuid() != 0)


def test_the_runs_own_unit_has_the_same_limits() -> None:
    folder = supervisor_start.RunDirectory("/runs/run1")
    argv = supervisor_start.systemd_argv(folder, "node0", 5)
    assert {f"--property={limit}" for limit in supervisor_start.LIMITS} <= set(argv)


def test_a_manager_that_refuses_is_said(systemd_run: Path) -> None:
    systemd_run.write_text("#!/bin/sh\necho Failed to connect to bus >&2\nexit 1\n")
    found = probe_limits.read("systemd")
    assert found["memlock"] is None
    assert found["error"] == "systemd-run: Failed to connect to bus"
