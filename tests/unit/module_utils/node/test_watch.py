# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watch's handshake over loopback: both sides prove that they know the key, and no stranger gets further."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from unit.helpers import free_port

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.watch_rules import Order
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import watch
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.watch import HeadEnd, NodeEnd, WatchError

KEY = "the key of this run"


class Head:
    """A head that goes on, and remembers what it took."""

    def __init__(self) -> None:
        self.port = free_port()
        self.taken: list[tuple[str, dict[str, Any]]] = []

    def take(self, node: str, report: dict[str, Any]) -> Order:
        self.taken.append((node, report))
        return Order("end", "because", {"node": "node2"}) if report.get("phase") == "ended" else Order("go")


@asynccontextmanager
async def listening(key: str = KEY) -> AsyncIterator[Head]:
    head = Head()
    end = HeadEnd(key, {"node1", "node2"}, head.take)
    await end.listen("127.0.0.1", head.port)
    try:
        yield head
    finally:
        end.close()


@asynccontextmanager
async def serving(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """Something else that listens where the head should."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        finally:
            writer.close()

    port = free_port()
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield port
    finally:
        server.close()


async def said(writer: asyncio.StreamWriter, reader: asyncio.StreamReader, message: bytes) -> bytes:
    """Send a line and return what comes back; nothing where the connection was closed."""
    try:
        writer.write(message + b"\n")
        await writer.drain()
        return await asyncio.wait_for(reader.readline(), 10)
    except ConnectionError:
        return b""


def test_reports_are_answered_with_orders() -> None:
    async def talk() -> None:
        async with listening() as head:
            node = NodeEnd(KEY, "node1")
            assert await node.exchange("127.0.0.1", head.port, {"phase": "running"}) == (Order("go"), "running")
            order, taken = await node.exchange("127.0.0.1", head.port, {"phase": "ended", "loss": 1.5})
            assert order == Order("end", "because", {"node": "node2"})
            assert taken == "ended"
            assert head.taken == [("node1", {"phase": "running"}), ("node1", {"phase": "ended", "loss": 1.5})]
            node.close()

    asyncio.run(talk())


def test_several_nodes_report_at_once() -> None:
    async def talk() -> None:
        async with listening() as head:
            nodes = [NodeEnd(KEY, name) for name in ("node1", "node2")]
            await asyncio.gather(*(node.exchange("127.0.0.1", head.port, {}) for node in nodes))
            assert sorted(name for name, _unused in head.taken) == ["node1", "node2"]
            for node in nodes:
                node.close()

    asyncio.run(talk())


def test_a_node_with_another_key_is_refused() -> None:
    async def talk() -> None:
        async with listening() as head:
            with pytest.raises((WatchError, OSError)):
                await NodeEnd("another key", "node1").exchange("127.0.0.1", head.port, {"phase": "ended"})
            assert head.taken == []

    asyncio.run(talk())


def test_an_unknown_node_is_refused_even_with_the_key() -> None:
    async def talk() -> None:
        async with listening() as head:
            with pytest.raises((WatchError, OSError)):
                await NodeEnd(KEY, "node9").exchange("127.0.0.1", head.port, {"phase": "ended"})
            assert head.taken == []

    asyncio.run(talk())


def test_a_head_that_does_not_know_the_key_gets_no_report() -> None:
    heard: list[bytes] = []

    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await watch.send(writer, {"nonce": "00"})
        hello = await watch.receive(reader, 10)
        shown = watch.proof("another key", "head", hello["node"], "00", hello["nonce"])
        await watch.send(writer, {"proof": shown})
        heard.append(await reader.read())

    async def talk() -> None:
        async with serving(impostor) as port:
            with pytest.raises(WatchError, match="not this run's head"):
                await NodeEnd(KEY, "node1").exchange("127.0.0.1", port, {"phase": "running", "secret": 1})

    asyncio.run(talk())
    assert heard in ([], [b""])


def test_a_head_that_sends_the_nodes_own_proof_back_is_refused() -> None:
    async def mirror(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await watch.send(writer, {"nonce": "00"})
        hello = await watch.receive(reader, 10)
        await watch.send(writer, {"proof": hello["proof"]})

    async def talk() -> None:
        async with serving(mirror) as port:
            with pytest.raises(WatchError, match="not this run's head"):
                await NodeEnd(KEY, "node1").exchange("127.0.0.1", port, {})

    asyncio.run(talk())


def test_a_recorded_proof_is_worth_nothing_the_next_time() -> None:
    async def talk() -> None:
        async with listening() as head:
            reader, writer = await asyncio.open_connection("127.0.0.1", head.port)
            nonce = (await watch.receive(reader, 10))["nonce"]
            shown = watch.proof(KEY, "node", "node1", nonce, "11")
            hello = json.dumps({"node": "node1", "nonce": "11", "proof": shown}).encode()
            assert b"proof" in await said(writer, reader, hello)
            assert b"order" in await said(writer, reader, b'{"phase": "running"}')
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", head.port)
            assert (await watch.receive(reader, 10))["nonce"] != nonce
            assert await said(writer, reader, hello) == b""
            writer.close()
            assert len(head.taken) == 1

    asyncio.run(talk())


def test_a_proof_is_of_one_node_and_one_side() -> None:
    proofs = {
        watch.proof(key, side, node, head_nonce, node_nonce)
        for key in ("a", "b")
        for side in ("node", "head")
        for node in ("node1", "node2")
        for head_nonce, node_nonce in (("1", "2"), ("2", "1"), ("12", ""), ("", "12"))
    }
    assert len(proofs) == 2 * 2 * 2 * 4


@pytest.mark.parametrize("line", [b"", b"GET / HTTP/1.1", b"[]", b"null", b"{}", b'{"node": "node1"}', b"\xff\xfe"])
def test_a_stranger_that_says_something_else_is_refused(line: bytes) -> None:
    async def talk() -> None:
        async with listening() as head:
            reader, writer = await asyncio.open_connection("127.0.0.1", head.port)
            await watch.receive(reader, 10)
            assert await said(writer, reader, line) == b""
            writer.close()
            node = NodeEnd(KEY, "node1")  # and the head still serves its nodes
            assert (await node.exchange("127.0.0.1", head.port, {}))[0] == Order("go")
            node.close()
            assert len(head.taken) == 1

    asyncio.run(talk())


@pytest.mark.parametrize("known", [False, True])
def test_an_oversize_message_is_refused_before_it_is_taken_in(known: bool) -> None:
    async def talk() -> int:
        async with listening() as head:
            reader, writer = await asyncio.open_connection("127.0.0.1", head.port)
            nonce = (await watch.receive(reader, 10))["nonce"]
            if known:
                shown = watch.proof(KEY, "node", "node1", nonce, "11")
                hello = json.dumps({"node": "node1", "nonce": "11", "proof": shown}).encode()
                assert b"proof" in await said(writer, reader, hello)
            sent = 0
            try:
                while sent < 400 * watch.MAX_MESSAGE:
                    writer.write(b"x" * watch.MAX_MESSAGE)
                    await asyncio.wait_for(writer.drain(), 10)
                    sent += watch.MAX_MESSAGE
            except ConnectionError:
                pass
            writer.close()
            assert head.taken == []
            return sent

    # The head hung up; what went out by then lies in the kernel's buffers.
    assert asyncio.run(talk()) < 400 * watch.MAX_MESSAGE


def test_an_oversize_answer_is_refused_by_the_node() -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * (10 * watch.MAX_MESSAGE))
        await writer.drain()

    async def talk() -> None:
        async with serving(flood) as port:
            with pytest.raises((WatchError, OSError)):
                await NodeEnd(KEY, "node1").exchange("127.0.0.1", port, {})

    asyncio.run(talk())


def test_silence_ends_the_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "HANDSHAKE_TIMEOUT", 0.3)

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def talk() -> None:
        async with serving(mute) as port:
            with pytest.raises(asyncio.TimeoutError):
                await NodeEnd(KEY, "node1").exchange("127.0.0.1", port, {})
        async with listening() as head:
            reader, writer = await asyncio.open_connection("127.0.0.1", head.port)
            await watch.receive(reader, 10)
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()

    asyncio.run(talk())


def test_a_node_dials_again_after_the_connection_broke() -> None:
    async def talk() -> None:
        node = NodeEnd(KEY, "node1")
        async with listening() as head:
            await node.exchange("127.0.0.1", head.port, {"number": 1})
            assert node._connection is not None
            node._connection[1].transport.abort()
            with pytest.raises((WatchError, OSError)):
                await node.exchange("127.0.0.1", head.port, {"number": 2})
            await node.exchange("127.0.0.1", head.port, {"number": 3})
            assert [report["number"] for _unused, report in head.taken] == [1, 3]
            node.close()
            with pytest.raises(ConnectionRefusedError):
                await node.exchange("127.0.0.1", free_port(), {})

    asyncio.run(talk())


def test_a_taken_port_is_an_error_and_a_foreign_address_means_all() -> None:
    async def talk() -> None:
        async with listening() as head:
            with pytest.raises(OSError, match="in use"):
                await HeadEnd(KEY, {"node1"}, head.take).listen("127.0.0.1", head.port)
        natted = HeadEnd(KEY, {"node1"}, head.take)
        await natted.listen("192.0.2.1", head.port)
        node = NodeEnd(KEY, "node1")
        assert (await node.exchange("127.0.0.1", head.port, {}))[0] == Order("go")
        node.close()
        natted.close()

    asyncio.run(talk())
