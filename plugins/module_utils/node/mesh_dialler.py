# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dialling side of the mesh: reaches all listeners of the fleet from this node, many at once, in bounded time.

A path on which large packets vanish (jumbo frames through a switch that takes 1,500 bytes, with ICMP filtered) lets
every handshake pass and stalls the first bulk. So a bulk goes both ways, and where it stalls the same is tried once
more in small packets: if these pass, the size is to blame.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Callable, NamedTuple

from ..core import mesh_protocol as protocol
from ..core.mesh_summary import Outcome
from . import tcp_path

PARALLEL = 256
"""Connections at once; below the 1,024 descriptors that a login usually may have."""
SMALL_SEGMENT = 536
"""Bytes of payload that any path takes: TCP's default where the other side names none (RFC 9293, section 3.7.1)."""
LOOK_AROUND = 0.05

_PAYLOAD = os.urandom(protocol.BULK)  # random, so that nothing on the path can compress it
_CONNECTING, _ASKING, _SENDING, _RECEIVING = range(4)


class Target(NamedTuple):
    """A port to dial.

    Attributes:
        position: the node's, in the order of the plan.
        address: its address or name.
        port: the port.
        word: what its listener wants to hear.
        first: whether the bulk is to travel over this port, rather than the lines alone.
    """

    position: int
    address: str
    port: int
    word: str
    first: bool


def in_turn(targets: Sequence[Target], position: int) -> list[Target]:
    """The targets after one's own position first, so that the nodes don't all begin with the same one.

    Of a node's own ports only the further ones are left: what is pinned on the head is dialled by itself, too.
    """
    others = [target for target in targets if target.position != position or not target.first]
    return sorted(others, key=lambda target: target.position < position)


class _Dial:
    """One target on its way through connecting, asking, sending and receiving."""

    def __init__(self, target: Target, addresses: Sequence[str], timeout: float, clock: Callable[[], float]) -> None:
        self.target = target
        self.outcome: Outcome | None = None
        self.socket: socket.socket | None = None
        self.deadline = 0.0
        self._addresses = list(addresses)
        self._timeout = timeout
        self._clock = clock
        self._state = _CONNECTING
        self._stalled = ""  # how it stalled with packets of full size; set while small ones are tried
        self._peer = ""
        self._measured: tuple[float, float] | None = None
        self._asked = 0.0
        self._line = b""
        self._interface = 0
        self._peer_interface = 0
        self._outgoing = memoryview(b"")
        self._unacknowledged = 0
        self._missing = 0

    # What the loop calls; each sets `outcome` when it is done, and may set another `socket`.

    def start(self) -> None:
        """Dial the next address of the target."""
        if not self._addresses:
            self._end(protocol.UNRESOLVED)
        else:
            self._connect(self._addresses.pop(0))

    def ready(self) -> None:
        """Something can be read or written."""
        try:
            if self._state == _CONNECTING:
                self._connected(self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            elif self._state == _ASKING:
                self._read_greeting()
            else:
                self._exchange()
        except BlockingIOError:
            pass
        except OSError as error:
            self._fail(error.errno or 0)

    def overdue(self, final: bool) -> None:
        """Nothing has moved for the whole timeout, or the time for all is up (`final`)."""
        if final:
            self._end(protocol.UNFINISHED)
            return
        if self._state == _SENDING:
            left = tcp_path.unacknowledged(self._connection)
            if left < self._unacknowledged:  # slow, but it goes on
                self._unacknowledged = left
                self._renew()
                return
        if self._state == _CONNECTING:
            if self._addresses:
                self._close()
                self.start()
            else:
                self._end(protocol.TIMED_OUT)
        elif self._state == _ASKING:
            self._end(protocol.SILENT)
        elif self._stalled:  # small packets don't get through either
            self._end(protocol.STALLED)
        else:
            self._stalled = protocol.VANISH_BACK if self._state == _RECEIVING else protocol.VANISH_THERE
            self._close()
            self._connect(self._peer)

    @property
    def events(self) -> int:
        if self._state == _CONNECTING:
            return selectors.EVENT_WRITE
        return selectors.EVENT_WRITE if self._outgoing else selectors.EVENT_READ

    @property
    def _connection(self) -> socket.socket:
        """The socket in use; the loop watches no dial without one."""
        if self.socket is None:
            raise RuntimeError("there is no connection")
        return self.socket

    def _connect(self, address: str) -> None:
        self._state = _CONNECTING
        self._peer = address
        self._line = b""
        self._renew()
        try:
            family, kind, number, _name, where = socket.getaddrinfo(
                address, self.target.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )[0]
            self.socket = socket.socket(family, kind, number)
            self.socket.setblocking(False)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._stalled:
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALL_SEGMENT)
            code = self.socket.connect_ex(where)
        except OSError as error:
            code = error.errno or errno.EINVAL
        if code not in (0, errno.EINPROGRESS):
            self._fail(code)

    def _connected(self, code: int) -> None:
        if code:
            self._fail(code)
            return
        self._state = _ASKING
        if not self._stalled:
            self._interface = tcp_path.mtu_of(self._connection).interface
        self._asked = self._clock()
        self._connection.sendall(protocol.request_line(protocol.Request(self.target.word, self.target.first)))
        self._renew()

    def _read_greeting(self) -> None:
        content = self._connection.recv(protocol.MAX_LINE)
        now = self._clock()
        self._line += content
        head, newline, rest = self._line.partition(b"\n")
        greeting = protocol.parse_greeting(head) if newline and not rest else None
        if greeting is None:
            if newline or not content or len(self._line) >= protocol.MAX_LINE:
                self._end(protocol.STRANGER)
            return
        if self._measured is None:
            self._peer_interface = greeting.mtu
            self._measured = (greeting.clock - (self._asked + now) / 2, abs(now - self._asked) / 2)
        if not self.target.first:
            self._end(protocol.REACHED)
            return
        self._state = _SENDING
        self._outgoing = memoryview(_PAYLOAD)
        self._unacknowledged = protocol.BULK
        self._missing = len(protocol.RECEIVED) + protocol.BULK
        self._renew()

    def _exchange(self) -> None:
        if self._outgoing:
            sent = self._connection.send(self._outgoing)
            self._outgoing = self._outgoing[sent:]
            self._renew()
            if self._outgoing:
                return
        content = self._connection.recv(64 * 1024)
        if not content:
            self._end(protocol.CUT_OFF)
            return
        self._state = _RECEIVING
        self._missing -= len(content)
        self._renew()
        if self._missing <= 0:
            self._end(self._stalled or protocol.REACHED)

    def _renew(self) -> None:
        self.deadline = time.monotonic() + self._timeout

    def _fail(self, code: int) -> None:
        if self._state == _CONNECTING and self._addresses and not self._stalled:
            self._close()
            self.start()
        elif self._state in (_SENDING, _RECEIVING):
            self._end(protocol.CUT_OFF)
        elif code == errno.ETIMEDOUT:
            self._end(protocol.TIMED_OUT)
        else:
            self._end(os.strerror(code).lower())

    def _end(self, said: str) -> None:
        path = 0
        if said == protocol.REACHED and self.socket:
            known = (tcp_path.mtu_of(self.socket).path, self._interface, self._peer_interface)
            path = min((mtu for mtu in known if mtu), default=0)
        offset, error = self._measured or (None, 0.0)
        target = self.target
        self.outcome = Outcome(target.position, target.port, target.first, said, path, self._interface, offset, error)
        self._close()

    def _close(self) -> None:
        if self.socket:
            self.socket.close()
            self.socket = None


def dial_all(
    targets: Iterable[Target],
    addresses: Mapping[str, Sequence[str]],
    timeout: float,
    seconds: float,
    clock: Callable[[], float] = time.time,
) -> list[Outcome]:
    """Dial every target, up to PARALLEL at once.

    Args:
        targets: in the order in which to begin.
        addresses: what the target's address resolves to, for each; empty where it does not.
        timeout: seconds without progress after which one is given up.
        seconds: what all together may take; what was not begun by then was not tried.
        clock: the wall clock, in seconds since the epoch.
    """
    waiting = deque(_Dial(target, addresses.get(target.address, ()), timeout, clock) for target in targets)
    every = list(waiting)
    active: dict[object, _Dial] = {}
    deadline, next_look = time.monotonic() + seconds, 0.0

    def watch(dial: _Dial, act: Callable[[], None]) -> None:
        """Have the dial act, and then watch what it waits for."""
        before = dial.socket
        if before:
            selector.unregister(before)
            del active[before]
        act()
        if dial.outcome is None and dial.socket:
            selector.register(dial.socket, dial.events)
            active[dial.socket] = dial

    with selectors.DefaultSelector() as selector:
        while waiting or active:
            now = time.monotonic()
            while waiting and len(active) < PARALLEL and now < deadline:
                dial = waiting.popleft()
                watch(dial, dial.start)
            if now >= deadline:
                waiting.clear()
            for key, _events in selector.select(timeout=LOOK_AROUND):
                dial = active[key.fileobj]
                watch(dial, dial.ready)
            now = time.monotonic()
            if now >= next_look:
                next_look = now + LOOK_AROUND
                for dial in [dial for dial in active.values() if dial.deadline <= now or now >= deadline]:
                    final = now >= deadline
                    watch(dial, lambda dial=dial, final=final: dial.overdue(final))  # type: ignore[misc]
    return [
        dial.outcome or Outcome(dial.target.position, dial.target.port, dial.target.first, protocol.UNFINISHED)
        for dial in every
    ]
