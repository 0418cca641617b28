# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The listener serves who knows its word, gives a stranger nothing, and never stands in the way of a run."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

import pytest
from unit.helpers import free_port, wait_for
from unit.meshes import WORD, listening, read_all

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import mesh_protocol as protocol
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import mesh_listener
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.mesh_listener import MeshListener, NewRuns


def dial(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.settimeout(30)
    return connection


def ask(port: int, line: bytes) -> bytes:
    """What the listener says to a line until it closes; this side has nothing more to say."""
    with dial(port) as connection:
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        return read_all(connection)


def test_a_peer_gets_clock_and_mtu() -> None:
    with listening(clock=lambda: 1234.5) as (port,):
        greeting = protocol.parse_greeting(ask(port, f"{WORD}\n".encode()).strip())
    assert greeting is not None
    assert greeting.clock == 1234.5
    assert 60_000 < greeting.mtu <= 65_536  # loopback's, which is 65,536 where nobody has changed it


def test_a_bulk_is_confirmed_and_sent_back() -> None:
    with contextlib.ExitStack() as stack:
        (port,) = stack.enter_context(listening())
        connection = stack.enter_context(dial(port))
        connection.sendall(f"{WORD} bulk\n".encode() + b"x" * protocol.BULK)
        answer = b""
        while len(answer) < protocol.BULK + len(protocol.RECEIVED):
            answer += connection.recv(65536)
        _greeting, received, rest = answer.split(b"\n", 2)
        assert received + b"\n" == protocol.RECEIVED
        wanted = protocol.BULK
        while len(rest) < wanted:
            rest += connection.recv(65536)
        assert len(rest) == wanted


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"wrong\n",
        WORD[:-1].encode() + b"\n",
        WORD.encode() + b" bulk bulk\n",
        b"GET / HTTP/1.1\r\n",
        b"\xff\n",
        b"x" * 1000,
        b"",
    ],
)
def test_a_stranger_gets_nothing(line: bytes) -> None:
    with listening() as (port,):
        assert ask(port, line) == b""


def test_more_than_was_announced_ends_the_connection() -> None:
    with listening() as (port,):
        assert ask(port, f"{WORD}\n".encode() + b"x").count(b"\n") <= 1
        with dial(port) as connection:
            connection.sendall(f"{WORD} bulk\n".encode() + b"x" * protocol.BULK * 2)
            assert len(read_all(connection)) <= protocol.BULK + 200


def test_a_silent_stranger_is_cut_off_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_listener, "WORD_SECONDS", 0.5)
    with contextlib.ExitStack() as stack:
        (port,) = stack.enter_context(listening())
        silent = stack.enter_context(dial(port))
        assert ask(port, f"{WORD}\n".encode())
        assert silent.recv(1) == b""


def test_a_peer_that_stops_in_the_middle_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_listener, "CONNECTION_SECONDS", 0.5)
    with contextlib.ExitStack() as stack:
        (port,) = stack.enter_context(listening())
        peer = stack.enter_context(dial(port))
        peer.sendall(f"{WORD} bulk\n".encode() + b"x")
        assert read_all(peer).count(b"\n") == 1


def test_a_crowd_of_strangers_does_not_shut_a_peer_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_listener, "MAX_CONNECTIONS", 5)
    with listening() as (port,):
        strangers = [dial(port) for _number in range(20)]
        assert ask(port, f"{WORD}\n".encode())
        assert strangers[0].recv(1) == b""  # the oldest had to go
        for stranger in strangers:
            stranger.close()


def test_it_ends_by_itself_while_somebody_is_connected() -> None:
    server = mesh_listener.open_port("127.0.0.1", 0)
    with server, dial(server.getsockname()[1]):
        begun = time.monotonic()
        MeshListener([server], WORD, [], NewRuns("")).serve(0.5)
        assert 0.5 <= time.monotonic() - begun < 20


def test_a_run_that_starts_gets_its_ports(tmp_path: Path) -> None:
    (tmp_path / "20250101T000000Z-old").mkdir()
    with listening(runs=str(tmp_path), lent=1) as (own, lent):
        assert ask(lent, f"{WORD}\n".encode())
        (tmp_path / "20260101T000000Z-new").mkdir()

        def taken() -> bool:
            try:
                with socket.create_server(("127.0.0.1", lent)):
                    return True
            except OSError:
                return False

        wait_for(taken)
        assert ask(own, f"{WORD}\n".encode())  # the port that no run wants stays


def test_new_runs_are_told_from_those_that_were_there(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    runs = NewRuns(str(folder))
    assert not runs.started()
    folder.mkdir()
    (folder / "a").mkdir()
    assert runs.started()
    later = NewRuns(str(folder))
    (folder / "a").rmdir()  # cleaning up is no start
    assert not later.started()


def test_an_address_of_another_machine_means_all() -> None:
    with mesh_listener.open_port("192.0.2.1", 0) as server:
        assert server.getsockname()[0] == "0.0.0.0"  # noqa: S104 - read, not bound here


def test_an_address_of_this_machine_means_that_one() -> None:
    with mesh_listener.open_port("127.0.0.1", 0) as server:
        assert server.getsockname()[0] == "127.0.0.1"


def test_a_name_that_means_loopback_means_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_listener.sockets, "serving_address", lambda address: None)
    with mesh_listener.open_port("localhost", 0) as server:
        assert server.getsockname()[0] in ("0.0.0.0", "::")  # noqa: S104 - read, not bound here


def test_a_port_of_its_own_comes_from_the_range_of_the_kernel() -> None:
    lowest, highest = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    with mesh_listener.open_port("127.0.0.1", 0) as server:
        assert lowest <= server.getsockname()[1] <= highest


def test_a_taken_port_and_an_unknown_name_are_errors() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server, pytest.raises(OSError, match="in use"):
        mesh_listener.open_port("127.0.0.1", server.getsockname()[1])
    with pytest.raises(OSError, match=r"not known|resolution"):
        mesh_listener.open_port("head.invalid", 0)
