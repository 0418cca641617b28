# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Offers one file or tree to whoever proves to know a one-time key: for a bounded time, to few at once."""

from __future__ import annotations

import hmac
import os
import secrets
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..core.manifest import Entry
from ..core.mutual_proof import proof
from ..core.relay_protocol import MAX_MESSAGE, RelayError, message, parse, place, requested, word
from . import sockets
from .detached import detach
from .processes import Identity

MAX_CONNECTIONS = 8
"""One peer per round is planned; more come only when rounds overlap, or when strangers dial."""
HANDSHAKE_TIMEOUT = 10.0
STALL_TIMEOUT = 120.0
"""Seconds without a byte of progress after which a connection is given up."""


class Offer(NamedTuple):
    """What is offered: the files `entries` below `path` (or `path` itself), to those who know `key`."""

    path: str
    entries: Sequence[Entry]
    key: str


def start(offer: Offer, address: str, idle: float, seconds: float) -> tuple[int, Identity]:
    """Serve in a process of its own; give the port and that process.

    Raises:
        OSError: nothing can listen on the address.
    """
    server = listen(address)
    try:
        return server.getsockname()[1], detach(lambda: serve(server, offer, idle, seconds))
    finally:
        server.close()


def listen(address: str) -> socket.socket:
    """Listen on a port that the kernel chooses, on the node's own address; on all where that is translated (NAT)."""
    own = sockets.serving_address(address) or "0.0.0.0"  # noqa: S104 - as the watch; who connects must know the key
    family = socket.getaddrinfo(own, 0, type=socket.SOCK_STREAM)[0][0]
    server = socket.socket(family, socket.SOCK_STREAM)
    try:
        try:
            server.bind((own, 0))
        except OSError:
            server.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))  # noqa: S104 - as above
        server.listen(64)
    except BaseException:
        server.close()
        raise
    return server


def serve(server: socket.socket, offer: Offer, idle: float, seconds: float) -> None:
    """Serve until nobody has been connected for `idle` seconds, and never longer than `seconds`."""
    begin = last = time.monotonic()
    threads: list[threading.Thread] = []
    while True:
        now = time.monotonic()
        threads = [thread for thread in threads if thread.is_alive()]
        if threads:
            last = now
        if now - begin > seconds or now - last > idle:
            return
        server.settimeout(max(0.05, min(1.0, idle / 4)))
        try:
            connection = server.accept()[0]
        except OSError:  # nobody came
            continue
        last = now
        if len(threads) >= MAX_CONNECTIONS:
            connection.close()
            continue
        threads.append(threading.Thread(target=_answer, args=(connection, offer), daemon=True))
        threads[-1].start()


def _answer(connection: socket.socket, offer: Offer) -> None:
    try:
        with connection, connection.makefile("rb") as reader:
            connection.settimeout(HANDSHAKE_TIMEOUT)
            _recognise(connection, reader, offer.key)
            connection.settimeout(STALL_TIMEOUT)
            while True:
                line = reader.readline(MAX_MESSAGE)
                if not line:
                    return
                _send(connection, offer, parse(line))
    except (RelayError, OSError):
        pass  # whoever fetches sees that nothing more comes, and asks somewhere else


def _recognise(connection: socket.socket, reader: Any, key: str) -> None:
    nonce = secrets.token_hex(16)
    connection.sendall(message({"nonce": nonce}))
    hello = parse(reader.readline(MAX_MESSAGE))
    other = word(hello, "nonce")
    if not hmac.compare_digest(proof(key, "client", "relay", nonce, other), word(hello, "proof")):
        raise RelayError("a stranger")
    connection.sendall(message({"proof": proof(key, "server", "relay", nonce, other)}))


def _send(connection: socket.socket, offer: Offer, request: dict[str, Any]) -> None:
    entry, offset = requested(request, offer.entries)
    try:
        stream = open(place(offer.path, entry), "rb", buffering=0)  # noqa: SIM115 - closed below
    except OSError as error:
        connection.sendall(message({"error": f"{entry.path or offer.path}: {error.strerror}"}))
        return
    with stream:
        if os.fstat(stream.fileno()).st_size != entry.size:
            connection.sendall(message({"error": f"{entry.path or offer.path} has another size"}))
            return
        connection.sendall(message({"size": entry.size - offset}))
        connection.sendfile(stream, offset, entry.size - offset or None)
