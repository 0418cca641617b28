# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watch: each node's supervisor reports to the head's over one authenticated connection, and gets its orders.

A star of small messages: a report (JSON, one line) each second or when something happened, answered at once with an
order. Both sides prove that they know the run's key (HMAC-SHA256 over both nonces) before anything else is said;
the key itself never travels.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import hmac
import json
import secrets
from typing import Any, Callable

from ..core.mutual_proof import proof
from ..core.watch_rules import Order
from . import sockets

REPORT_INTERVAL = 1.0
HANDSHAKE_TIMEOUT = 5.0
MAX_MESSAGE = 64 * 1024


class WatchError(Exception):
    """The other side is not who it should be, or said something that is no message."""


def hex_word(value: Any) -> str:
    """A nonce or proof as a stranger sent it.

    Raises:
        WatchError: it is none.
    """
    if not isinstance(value, str) or len(value) > 64 or not set(value) <= set("0123456789abcdef"):
        raise WatchError("no hex word")
    return value


async def send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    """Send one message."""
    writer.write(json.dumps(message).encode() + b"\n")
    await writer.drain()


async def receive(reader: asyncio.StreamReader, timeout: float) -> dict[str, Any]:
    """Receive one message.

    Raises:
        WatchError: it is no message, or the connection has ended.
        asyncio.TimeoutError: nothing came within `timeout` seconds.
    """
    try:
        line = await asyncio.wait_for(reader.readline(), timeout)
        message = json.loads(line)
    except (ValueError, RecursionError) as error:  # also an over-long line
        raise WatchError(f"no message: {error}") from None
    if not isinstance(message, dict):
        raise WatchError("no message: not an object")
    return message


class HeadEnd:
    """The head's side: listens, and answers each report with the order that `take` returns."""

    def __init__(self, key: str, nodes: set[str], take: Callable[[str, dict[str, Any]], Order]) -> None:
        self._key = key
        self._nodes = nodes
        self._take = take
        self._server: asyncio.AbstractServer | None = None

    async def listen(self, address: str, port: int) -> None:
        """Listen on the head's address; on all where that is no address of this machine (NAT, say)."""
        try:
            where = sockets.serving_address(address)
            self._server = await asyncio.start_server(self._serve, where, port, limit=MAX_MESSAGE)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
            self._server = await asyncio.start_server(self._serve, None, port, limit=MAX_MESSAGE)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            node = await self._recognise(reader, writer)
            while True:
                report = await receive(reader, HANDSHAKE_TIMEOUT + 60 * REPORT_INTERVAL)
                order = self._take(node, report)
                await send(writer, {"order": dataclasses.asdict(order), "taken": report.get("phase")})
        except (WatchError, OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
            pass  # the node dials again; should it not, its silence is what the rules see
        finally:
            writer.close()

    async def _recognise(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        nonce = secrets.token_hex(16)
        await send(writer, {"nonce": nonce})
        hello = await receive(reader, HANDSHAKE_TIMEOUT)
        node, node_nonce = str(hello.get("node")), hex_word(hello.get("nonce"))
        if node not in self._nodes:
            raise WatchError("a stranger")
        expected = proof(self._key, "node", node, nonce, node_nonce)
        if not hmac.compare_digest(expected, hex_word(hello.get("proof"))):
            raise WatchError("a stranger")
        await send(writer, {"proof": proof(self._key, "head", node, nonce, node_nonce)})
        return node

    def close(self) -> None:
        if self._server:
            self._server.close()


class NodeEnd:
    """A node's side: one connection to the head."""

    def __init__(self, key: str, node: str) -> None:
        self._key = key
        self._node = node
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def exchange(self, address: str, port: int, report: dict[str, Any]) -> tuple[Order, str | None]:
        """Report and get the order; dials first where there is no connection.

        Returns:
            the order, and the phase that the head has taken note of.

        Raises:
            WatchError, OSError, asyncio.TimeoutError: there was no answer; the next call dials again.
        """
        try:
            if self._connection is None:
                self._connection = await self._dial(address, port)
            reader, writer = self._connection
            await send(writer, report)
            answer = await receive(reader, HANDSHAKE_TIMEOUT)
            order = answer.get("order")
            if not isinstance(order, dict):
                raise WatchError("no order in the answer")
            kind, reason = str(order.get("kind")), str(order.get("reason"))
            start_in = order.get("start_in")
            start_in = float(start_in) if isinstance(start_in, (int, float)) else 0.0
            return Order(kind, reason, order.get("first_failure"), start_in), answer.get("taken")
        except BaseException:
            self.close()
            raise

    async def _dial(self, address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        opening = asyncio.open_connection(address, port, limit=MAX_MESSAGE)
        reader, writer = await asyncio.wait_for(opening, HANDSHAKE_TIMEOUT)
        try:
            await self._prove(reader, writer)
        except BaseException:
            writer.close()
            raise
        return reader, writer

    async def _prove(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head_nonce = hex_word((await receive(reader, HANDSHAKE_TIMEOUT)).get("nonce"))
        nonce = secrets.token_hex(16)
        mine = proof(self._key, "node", self._node, head_nonce, nonce)
        await send(writer, {"node": self._node, "nonce": nonce, "proof": mine})
        expected = proof(self._key, "head", self._node, head_nonce, nonce)
        shown = hex_word((await receive(reader, HANDSHAKE_TIMEOUT)).get("proof"))
        if not hmac.compare_digest(expected, shown):
            raise WatchError("what answers there is not this run's head")

    def close(self) -> None:
        if self._connection:
            self._connection[1].close()
        self._connection = None
