# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What port_probe and port_listener say to each other, and the words for what came of it.

    probe      WORD             or  WORD bulk
    listener   CLOCK MTU            CLOCK MTU
    probe                           BULK bytes
    listener                        received, then BULK bytes

The listener says nothing to who does not know its word, which the controller hands to the peers alone. The bulk
travels in packets as large as the two ends take for possible: where the path between them is narrower, and nobody
tells them so (ICMP is filtered), the lines pass and the bulk vanishes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

BULK = 128 * 1024
"""Bytes each way: two full packets on the largest MTU there is (65,520, IPoIB's connected mode), many on all others."""
MAX_LINE = 256
RECEIVED = b"received\n"

# What came of dialling a port, where it is not in the system's own words (connection refused, no route to host ...)
REACHED = "reached"
TIMED_OUT = "timed out"
UNRESOLVED = "its name does not resolve"
SILENT = "it accepts, and says nothing"
STRANGER = "another server answers"
CUT_OFF = "it hangs up in the middle"
STALLED = "it stalls under load"
VANISH_THERE = "large packets vanish on the way there"
VANISH_BACK = "large packets vanish on the way back"
UNFINISHED = "the time was up before it was tried"


class Request(NamedTuple):
    """What a probe asks for: the word that it shows, and whether a bulk follows."""

    word: str
    bulk: bool


class Greeting(NamedTuple):
    """The listener's clock (seconds since the epoch) and the MTU of the interface that it answers through."""

    clock: float
    mtu: int


def request_line(request: Request) -> bytes:
    return f"{request.word}{' bulk' if request.bulk else ''}\n".encode()


def parse_request(line: bytes) -> Request | None:
    """What a stranger or a probe sent as its first line; None where it is no request."""
    words = line.decode("ascii", "replace").split()
    if not words or words[1:] not in ([], ["bulk"]):
        return None
    return Request(words[0], len(words) == 2)


def greeting_line(greeting: Greeting) -> bytes:
    return f"{greeting.clock:.6f} {greeting.mtu}\n".encode()


def parse_greeting(line: bytes) -> Greeting | None:
    """What a listener or some other server answered; None where it is no greeting."""
    try:
        clock, mtu = line.decode("ascii").split()
        greeting = Greeting(float(clock), int(mtu))
    except ValueError:
        return None
    return greeting if math.isfinite(greeting.clock) and greeting.mtu >= 0 else None
