# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a command for a bounded time with bounded output, and leaves none of its children behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import IO, NamedTuple

MAX_OUTPUT = 1 << 20
_GRACE = 2.0
"""Seconds for a killed process to go, and for pipes to be drained."""


class CommandResult(NamedTuple):
    """How a command ended. A command that could not be started has rc 127 and says so in stderr.

    A command that SIGKILL did not end is left behind: it hangs in the kernel, mostly in a driver, and its rc is that of
    a killed one.
    """

    rc: int
    stdout: str
    stderr: str
    timed_out: bool
    left_behind: bool = False

    def message(self, limit: int = 2000) -> str:
        """What the command said about its failure: the end of it, since that is where tools put the reason."""
        if self.left_behind:
            return "it did not end in time and can't be killed: it hangs in the kernel, dmesg may say where"
        if self.timed_out:
            return "it did not end in time and was stopped"
        text = (self.stderr.strip() or self.stdout.strip() or f"exit code {self.rc}").replace("\r", "\n")
        return text if len(text) <= limit else "..." + text[-limit:]


def run(
    argv: Sequence[str],
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    max_output: int = MAX_OUTPUT,
    inherit: bool = True,
) -> CommandResult:
    """Run one argument list (never a shell), and come back at most some seconds after `timeout`.

    Args:
        argv: the command and its arguments.
        timeout: seconds after which it is killed with its whole session.
        env: variables that are added to this process's own environment.
        cwd: the folder in which it runs.
        max_output: bytes of each output; of more the middle is left out.
        inherit: whether this process's own environment is handed on; without it the command gets `env` alone.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**(os.environ if inherit else {}), **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return CommandResult(127, "", f"{argv[0]} can't be started: {error}", False)
    readers = [_Reader(pipe, max_output) for pipe in (process.stdout, process.stderr)]
    timed_out = False
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        if process.returncode is None:
            _kill(process)
    # A daemon that the command left behind may hold the pipes open for ever; what was said until now is enough.
    stdout, stderr = (reader.text(_GRACE) for reader in readers)
    rc = process.returncode
    return CommandResult(-signal.SIGKILL if rc is None else rc, stdout, stderr, timed_out, left_behind=rc is None)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a command's session, and wait for its end no longer than a kill takes.

    The session, and so the process group, is the command's own: nobody else's process can be in it. What waits in the
    kernel for a driver that does not answer (state D) takes no signal, and nobody may wait for it.
    """
    os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)


class _Reader:
    """Drains one pipe, so that the command never blocks on it, and keeps the first and the last part."""

    def __init__(self, pipe: IO[bytes] | None, most: int) -> None:
        self._half = most // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0
        self._pipe = pipe
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        if self._pipe is None:
            return
        with self._pipe:
            while True:
                chunk = os.read(self._pipe.fileno(), 65536)
                if not chunk:
                    return
                room = self._half - len(self._head)
                self._head += chunk[:room]
                self._tail += chunk[room:] if room > 0 else chunk
                surplus = len(self._tail) - self._half
                if surplus > 0:
                    del self._tail[:surplus]
                    self._dropped += surplus

    def text(self, grace: float) -> str:
        self._thread.join(grace)
        cut = f"\n... {self._dropped} bytes left out ...\n".encode() if self._dropped else b""
        return bytes(self._head + cut + self._tail).decode("utf-8", "replace")
