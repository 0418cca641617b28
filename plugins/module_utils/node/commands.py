# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a command for a bounded time with bounded output, and leaves none of its children behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import IO, NamedTuple

MAX_OUTPUT = 1 << 20
_GRACE = 2.0


class CommandResult(NamedTuple):
    """How a command ended. A command that could not be started has rc 127 and says so in stderr."""

    rc: int
    stdout: str
    stderr: str
    timed_out: bool

    def message(self, limit: int = 2000) -> str:
        """What the command said about its failure: the end of it, since that is where tools put the reason."""
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
    *,
    inherit: bool = True,
) -> CommandResult:
    """Run one argument list (never a shell).

    `env` is added to this process's own environment or, without `inherit`, is all that the command gets. Of more than
    `max_output` bytes of output the middle is left out.
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
            # The session, and so the process group, is the command's own: nobody else's process can be in it.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    # A daemon that the command left behind may hold the pipes open for ever; what was said until now is enough.
    stdout, stderr = (reader.text(_GRACE) for reader in readers)
    return CommandResult(process.returncode, stdout, stderr, timed_out)


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
