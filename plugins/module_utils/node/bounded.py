# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls what may block without a limit of its own (a resolver, a file of a driver that hangs) for a limited time."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple


class TookTooLong(Exception):
    """The call did not come back in time; it is left behind."""


class Outcome(NamedTuple):
    """How one of several calls ended.

    Attributes:
        value: what it returned, None where it failed.
        error: what went wrong in a sentence, None where nothing did.
        seconds: how long it took, or was waited for.
    """

    value: Any
    error: str | None
    seconds: float


class _Call:
    """A call in a thread of its own, which is a daemon and does not keep the process.

    A file system's or a socket's waits end with the process. A wait that nothing ends is a driver's, and drivers are to
    be asked by a child process (commands.run).
    """

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._function = function
        self._arguments = arguments
        self.started = time.monotonic()
        self.ended: float | None = None
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._function(*self._arguments)
        except BaseException as error:  # handed on to the caller
            self._error = error
        self.ended = time.monotonic()

    def result(self, seconds: float) -> Any:
        """What it returned, or raised, `seconds` after its start at the latest."""
        self._thread.join(max(0.0, self.started + seconds - time.monotonic()))
        if self.ended is None:
            raise TookTooLong(f"no answer within {seconds:.0f} s")
        if self._error is not None:
            raise self._error
        return self._value


def within(seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that only reads, and wait for it no longer than `seconds`.

    Returns:
        What it returned.

    Raises:
        TookTooLong: it did not come back in time. Its thread is a daemon and does not keep the process.
        Exception: whatever it raised.
    """
    return _Call(function, arguments).result(seconds)


def side_by_side(calls: Mapping[str, tuple[float, Callable[[], Any]]]) -> dict[str, Outcome]:
    """Make calls that only read at the same time; none of them can fail or hold up the others. It never raises.

    Args:
        calls: name to the seconds that it may take, and the function.
    """
    running = {name: (seconds, _Call(function, ())) for name, (seconds, function) in calls.items()}
    return {name: _outcome(seconds, call) for name, (seconds, call) in running.items()}


def _outcome(seconds: float, call: _Call) -> Outcome:
    value, said = None, None
    try:
        value = call.result(seconds)
    except TookTooLong as error:
        said = str(error)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"[:300]
    ended = call.ended if call.ended is not None else time.monotonic()
    return Outcome(value, said, round(ended - call.started, 3))
