# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls what may block without a limit of its own (a resolver, a file of a driver that hangs) for a limited time."""

from __future__ import annotations

import threading
from typing import Any, Callable


class TookTooLong(Exception):
    """The call did not come back in time; it is left behind."""


def within(seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that only reads, and wait for it no longer than `seconds`.

    Returns:
        What it returned.

    Raises:
        TookTooLong: it did not come back in time. Its thread is a daemon and does not keep the process.
        Exception: whatever it raised.
    """
    outcome: dict[str, Any] = {}

    def call() -> None:
        try:
            outcome["value"] = function(*arguments)
        except BaseException as error:  # handed on to the caller
            outcome["error"] = error

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    if "error" in outcome:
        raise outcome["error"]
    if "value" not in outcome:
        raise TookTooLong(f"no answer within {seconds:.0f} s")
    return outcome["value"]
