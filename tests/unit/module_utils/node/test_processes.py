# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes are found and ended by identity: pid and start time, descent, mark."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import pytest
from unit.helpers import wait_for

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import processes
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.processes import Identity

SLEEP = "import time; time.sleep(60)"


def identity_of(pid: int) -> Identity:
    process = processes.read_process(pid)
    assert process is not None
    return process.identity


@pytest.fixture
def mark() -> str:
    return f"test/{uuid.uuid4().hex}"


@pytest.fixture
def sleeper(mark: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", SLEEP], env={**os.environ, processes.RUN_MARK: mark})
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def family(mark: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process whose child has a session of its own, as torchrun's workers have."""
    code = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    environment = {**os.environ, processes.RUN_MARK: mark}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    yield process, child
    for pid in (child, process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_a_process_is_read() -> None:
    process = processes.read_process(os.getpid())
    assert process is not None
    assert process.identity.pid == os.getpid()
    assert process.parent == os.getppid()
    assert process.state in "RSD"
    assert process.identity.start_time > 0
    assert processes.is_alive(process.identity)


def test_a_name_with_parentheses_and_spaces_is_no_trap(tmp_path: os.PathLike[str]) -> None:
    program = os.path.join(tmp_path, "a) R 1 (b")
    os.symlink(sys.executable, program)
    with subprocess.Popen([program, "-c", SLEEP]) as process:
        read = wait_for(lambda: processes.read_process(process.pid))
        assert read.parent == os.getpid()
        process.kill()


def test_what_is_gone_is_none_and_a_zombie_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    identity = identity_of(process.pid)
    wait_for(lambda: not processes.is_alive(identity))
    zombie = processes.read_process(process.pid)
    assert zombie is not None
    assert zombie.state == "Z"
    assert identity not in processes.descendants(os.getpid())
    process.wait()
    assert processes.read_process(process.pid) is None


def test_descendants_have_all_generations_and_sessions(family: tuple[subprocess.Popen[bytes], int]) -> None:
    process, child = family
    assert {identity.pid for identity in processes.descendants(os.getpid())} >= {process.pid, child}
    assert [identity.pid for identity in processes.descendants(process.pid)] == [child]
    assert processes.descendants(child) == []


def test_the_mark_finds_a_family_whatever_its_parents(family: tuple[subprocess.Popen[bytes], int], mark: str) -> None:
    process, child = family
    wait_for(lambda: {identity.pid for identity in processes.marked().get(mark, [])} == {process.pid, child})
    process.kill()
    process.wait()
    assert processes.marked()[mark] == [identity_of(child)]
    assert not {mark + "x", mark[:-1], ""} & set(processes.marked())


def test_marks_are_told_apart(family: tuple[subprocess.Popen[bytes], int], mark: str) -> None:
    other = {**os.environ, processes.RUN_MARK: f"{mark}-other"}
    with subprocess.Popen([sys.executable, "-c", SLEEP], env=other) as process:
        wait_for(lambda: f"{mark}-other" in processes.marked())
        found = processes.marked()
        assert {identity.pid for identity in found[mark]} == {family[0].pid, family[1]}
        assert found[f"{mark}-other"] == [identity_of(process.pid)]
        process.kill()


def test_the_environment_is_the_one_at_the_start(sleeper: subprocess.Popen[bytes], mark: str) -> None:
    assert wait_for(lambda: processes.environment_of(sleeper.pid))[processes.RUN_MARK] == mark
    sleeper.kill()
    sleeper.wait()
    assert processes.environment_of(sleeper.pid) == {}


def test_a_signal_reaches_the_very_process(sleeper: subprocess.Popen[bytes]) -> None:
    assert processes.send_signal(identity_of(sleeper.pid), signal.SIGTERM)
    assert sleeper.wait(10) == -signal.SIGTERM


def test_a_reused_pid_is_never_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    pid, start_time = identity_of(sleeper.pid)
    for other in (start_time - 1, start_time + 1, 0):
        assert not processes.is_alive(Identity(pid, other))
        assert not processes.send_signal(Identity(pid, other), signal.SIGKILL)
    assert processes.signal_all([Identity(pid, start_time - 1)], signal.SIGKILL) == 0
    time.sleep(0.1)
    assert sleeper.poll() is None


def test_who_is_gone_can_not_be_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    identity = identity_of(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    assert not processes.send_signal(identity, signal.SIGTERM)


def test_without_pidfd_the_identity_is_checked_all_the_same(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def old_kernel(pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", old_kernel)
    pid, start_time = identity_of(sleeper.pid)
    assert not processes.send_signal(Identity(pid, start_time + 1), signal.SIGKILL)
    assert processes.send_signal(Identity(pid, start_time), signal.SIGTERM)
    assert sleeper.wait(10) == -signal.SIGTERM


def test_waiting_returns_those_that_stay(sleeper: subprocess.Popen[bytes]) -> None:
    identity = identity_of(sleeper.pid)
    begin = time.monotonic()
    assert processes.wait_until_gone([identity], 0.2) == [identity]
    assert time.monotonic() - begin >= 0.2
    sleeper.kill()
    assert processes.wait_until_gone([identity], 10) == []
