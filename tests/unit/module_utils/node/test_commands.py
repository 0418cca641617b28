# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A command never outlives its time, takes its children with it, and can't fill the memory."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import commands
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.commands import run


def python(code: str, timeout: float = 30, **options: object) -> commands.CommandResult:
    return run([sys.executable, "-c", code], timeout, **options)  # type: ignore[arg-type]


def test_output_and_exit_code_come_back() -> None:
    result = python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert result == (3, "out\n", "err\n", False, False)
    assert result.message() == "err"


def test_arguments_are_not_for_a_shell() -> None:
    assert run(["printf", "%s", "$HOME; `id` 'x'"], 30).stdout == "$HOME; `id` 'x'"


def test_the_environment_is_added_to_ones_own(tmp_path: Path) -> None:
    result = python(
        "import os; print(os.environ['ADDED'], 'PATH' in os.environ, os.getcwd())",
        env={"ADDED": "1"},
        cwd=str(tmp_path),
    )
    assert result.stdout == f"1 True {tmp_path}\n"


def test_the_environment_can_be_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN", "1")
    result = run(["/usr/bin/env"], 30, env={"ADDED": "1"}, inherit=False)
    assert result.stdout == "ADDED=1\n"


def test_a_missing_command_is_a_result() -> None:
    result = run(["/nonexistent/command"], 30)
    assert result.rc == 127
    assert "/nonexistent/command can't be started" in result.message()


def test_a_time_out_ends_the_children_too(tmp_path: Path) -> None:
    mark = tmp_path / "child"
    code = f"import os, time; os.fork(); open({str(mark)!r}, 'a').write(f'{{os.getpid()}} '); time.sleep(60)"
    started = time.monotonic()
    result = python(code, timeout=2)
    assert result.timed_out
    assert time.monotonic() - started < 20
    assert "did not end in time" in result.message()
    pids = [int(word) for word in mark.read_text().split()]
    assert len(pids) == 2
    time.sleep(0.2)
    assert not any(is_running(pid) for pid in pids)


def test_what_can_not_be_killed_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hangs in the kernel takes no signal; here none is sent to it."""
    kept: list[int] = []
    monkeypatch.setattr(commands, "_GRACE", 0.2)
    monkeypatch.setattr(os, "killpg", lambda group, number: kept.append(group))
    result = run(["sleep", "600"], 1)
    monkeypatch.undo()
    assert (result.timed_out, result.left_behind, result.rc) == (True, True, -signal.SIGKILL)
    assert "can't be killed: it hangs in the kernel" in result.message()
    os.killpg(kept[0], signal.SIGKILL)
    os.waitpid(kept[0], 0)


def is_running(pid: int) -> bool:
    """A killed orphan stays a zombie until init collects it."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_a_child_that_keeps_the_pipes_open_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_GRACE", 0.3)
    code = "import os, time\nprint('said', flush=True)\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(5)"
    started = time.monotonic()
    result = python(code)
    assert result.stdout == "said\n"
    assert time.monotonic() - started < 4


def test_endless_output_is_cut_in_the_middle() -> None:
    result = python(f"print('first'); print('x' * {4 * commands.MAX_OUTPUT}); print('last')")
    assert len(result.stdout) < commands.MAX_OUTPUT + 100
    assert result.stdout.startswith("first")
    assert result.stdout.endswith("last\n")
    assert "bytes left out" in result.stdout


def test_output_that_is_no_text_is_still_readable() -> None:
    assert python("import os; os.write(1, b'\\xff!')").stdout == "\ufffd!"
    assert os.path.exists("/proc/self")
