# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The listening side of the mesh: answers peers that know its word, and ends by itself.

One thread and one selector, so that nobody who dials can hold up the others. A stranger gets not one byte, and is cut
off after WORD_SECONDS; whoever knows the word gets BULK bytes once, within CONNECTION_SECONDS.
"""

from __future__ import annotations

import errno
import hmac
import os
import selectors
import socket
import time
from typing import Callable

from ..core import mesh_protocol as protocol
from . import sockets, tcp_path

WORD_SECONDS = 5.0
CONNECTION_SECONDS = 60.0
MAX_CONNECTIONS = 400
"""At once; below the 1,024 descriptors that a login usually may have. Of more, the oldest stranger is cut off."""
LOOK_AROUND = 0.1
"""Seconds between two looks at deadlines, and at whether a run has started that wants the port."""
BACKLOG = 1024

_PAYLOAD = memoryview(os.urandom(protocol.BULK))  # random, so that nothing on the path can compress it


def open_port(address: str, port: int) -> socket.socket:
    """Listen on the address, or on all where it is not this machine's (NAT) or a name of it that means loopback.

    Args:
        address: an address or name.
        port: the port; 0 has the kernel choose one as NCCL and gloo do, out of net.ipv4.ip_local_port_range.

    Raises:
        OSError: the port is taken, or the name does not resolve.
    """
    everywhere = sockets.serving_address(address) is None
    family, _type, _proto, _name, target = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    wildcard = "::" if family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 - as the rendezvous store and the watch
    server = socket.socket(family, socket.SOCK_STREAM)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((wildcard, port) if everywhere else target)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            server.bind((wildcard, port))
        server.listen(BACKLOG)
        server.setblocking(False)
    except BaseException:
        server.close()
        raise
    return server


class _Connection:
    """One peer, or a stranger that may be one."""

    def __init__(self, connection: socket.socket, now: float) -> None:
        self.socket = connection
        self.deadline = now + WORD_SECONDS
        self.known = False
        self.line = b""
        self.expected = 0
        self.outgoing: list[memoryview] = []
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self, word: str, clock: Callable[[], float], now: float) -> bool:
        """Take what came; False when the connection is to be closed."""
        content = self.socket.recv(64 * 1024)
        if not content:
            return False
        if not self.known:
            self.line += content
            head, newline, content = self.line.partition(b"\n")
            if not newline:
                return len(self.line) < protocol.MAX_LINE
            request = protocol.parse_request(head[: protocol.MAX_LINE])
            if request is None or not hmac.compare_digest(request.word.encode(), word.encode()):
                return False
            self.known = True
            self.deadline = now + CONNECTION_SECONDS
            self.expected = protocol.BULK if request.bulk else 0
            mtu = tcp_path.mtu_of(self.socket).interface
            self.say(protocol.greeting_line(protocol.Greeting(clock(), mtu)))
        if len(content) > self.expected:  # more than was announced
            return False
        if content:
            self.expected -= len(content)
            if self.expected == 0:
                self.say(protocol.RECEIVED)
                self.outgoing.append(_PAYLOAD)
        return True

    def say(self, content: bytes) -> None:
        self.outgoing.append(memoryview(content))

    def write(self) -> None:
        """Send as much as the kernel takes."""
        while self.outgoing:
            try:
                sent = self.socket.send(self.outgoing[0])
            except BlockingIOError:
                return
            self.outgoing[0] = self.outgoing[0][sent:]
            if not self.outgoing[0]:
                self.outgoing.pop(0)

    @property
    def events(self) -> int:
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self.outgoing else 0)


class NewRuns:
    """Tells that a run starts on this node: it makes its folder before it listens anywhere.

    Args:
        folder: absolute path of the folder with the node's runs; it need not exist.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._known = self._entries()

    def started(self) -> bool:
        """Whether there is a run that was not there when this object was made."""
        return bool(self._entries() - self._known)

    def _entries(self) -> set[str]:
        try:
            return set(os.listdir(self._folder))
        except OSError:
            return set()


class MeshListener:
    """Answers on its servers until the time is up.

    Args:
        servers: what open_port returned.
        word: what a peer has to know.
        lent: further servers, which are given up at once when a run starts on this node.
        runs: tells when that is.
        clock: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        servers: list[socket.socket],
        word: str,
        lent: list[socket.socket],
        runs: NewRuns,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._selector = selectors.DefaultSelector()
        self._word = word
        self._clock = clock
        self._connections: dict[socket.socket, _Connection] = {}
        self._servers = {*servers, *lent}
        self._lent = list(lent)
        self._runs = runs
        self._next_look = 0.0
        self.deadline = 0.0
        for server in self._servers:
            self._selector.register(server, selectors.EVENT_READ)

    def serve(self, seconds: float) -> None:
        """Answer whoever dials, for this long."""
        self.deadline = time.monotonic() + seconds
        while time.monotonic() < self.deadline:
            for key, events in self._selector.select(timeout=LOOK_AROUND):
                connection = self._connections.get(key.fileobj)  # type: ignore[call-overload]
                if connection:
                    self._attend(connection, events)
                elif key.fileobj in self._servers:
                    self._accept(key.fileobj)
            self._look_around()

    def _accept(self, server: socket.socket) -> None:
        try:
            connection = _Connection(server.accept()[0], time.monotonic())
        except OSError:  # it is gone again, or there is no descriptor left
            return
        if len(self._connections) >= MAX_CONNECTIONS:
            strangers = [other for other in self._connections.values() if not other.known]
            self._close(strangers[0] if strangers else next(iter(self._connections.values())))
        self._connections[connection.socket] = connection
        self._selector.register(connection.socket, connection.events)

    def _attend(self, connection: _Connection, events: int) -> None:
        try:
            stays = not events & selectors.EVENT_READ or connection.read(self._word, self._clock, time.monotonic())
            connection.write()
        except BlockingIOError:
            return
        except OSError:
            stays = False
        if stays:
            self._selector.modify(connection.socket, connection.events)
        else:
            self._close(connection)

    def _look_around(self) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_AROUND
        for connection in [other for other in self._connections.values() if other.deadline < now]:
            self._close(connection)
        if self._lent and self._runs.started():
            for server in self._lent:
                self._selector.unregister(server)
                self._servers.discard(server)
                server.close()
            self._lent = []

    def _close(self, connection: _Connection) -> None:
        self._selector.unregister(connection.socket)
        del self._connections[connection.socket]
        connection.socket.close()
