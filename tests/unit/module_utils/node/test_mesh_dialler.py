# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dialling real listeners and servers that are none: each way to fail has its own words, and its bounded time."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from unit.helpers import free_port
from unit.meshes import WORD, listening

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import mesh_protocol as protocol
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.mesh_summary import Outcome
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import mesh_dialler
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.mesh_dialler import Target, dial_all, in_turn

LOOPBACK = {"peer": ["127.0.0.1"]}


def target(port: int, position: int = 1, word: str = WORD, first: bool = True) -> Target:
    return Target(position, "peer", port, word, first)


def dial(port: int, timeout: float = 10, seconds: float = 60, **changes: object) -> Outcome:
    (outcome,) = dial_all([target(port, **changes)], LOOPBACK, timeout, seconds)  # type: ignore[arg-type]
    return outcome


Serve = Callable[[socket.socket], None]


@contextmanager
def server(serve: Serve) -> Iterator[int]:
    """A server that treats each connection in its own way, a thread for each."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            try:
                while True:
                    connection = listener.accept()[0]
                    threading.Thread(target=attend, args=(connection,), daemon=True).start()
            except OSError:
                return

        def attend(connection: socket.socket) -> None:
            with connection:
                try:
                    serve(connection)
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(30)


def say(*pieces: bytes, wait: float = 0) -> Serve:
    """Take the request, say something, and hang up after a while."""

    def serve(connection: socket.socket) -> None:
        connection.recv(protocol.MAX_LINE)
        for piece in pieces:
            connection.sendall(piece)
        connection.settimeout(wait or 0.01)
        time.sleep(wait)

    return serve


def is_small(connection: socket.socket) -> bool:
    """Whether the other side asked for small packets."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= mesh_dialler.SMALL_SEGMENT


def take_bulk(connection: socket.socket) -> None:
    left = protocol.BULK
    while left:
        left -= len(connection.recv(65536))


def narrow(there: bool, small_passes: bool = True) -> Serve:
    """A listener behind a path on which only small packets get through, in one direction."""

    def serve(connection: socket.socket) -> None:
        connection.recv(protocol.MAX_LINE)
        connection.sendall(protocol.greeting_line(protocol.Greeting(time.time(), 1500)))
        passes = is_small(connection) and small_passes
        if not there or passes:
            take_bulk(connection)
            connection.sendall(protocol.RECEIVED)
        if passes:
            connection.sendall(b"x" * protocol.BULK)
        time.sleep(30)

    return serve


def test_a_listener_is_reached_and_measured() -> None:
    with listening(clock=lambda: time.time() + 5) as (port,):
        outcome = dial(port)
    assert (outcome.position, outcome.port, outcome.first, outcome.said) == (1, port, True, "reached")
    assert outcome.offset is not None
    assert abs(outcome.offset - 5) <= outcome.error + 0.001
    assert 0 <= outcome.error < 5
    assert 60_000 < outcome.mtu == outcome.interface <= 65_536  # loopback's


def test_half_a_round_trip_is_what_the_offset_can_be_wrong_by() -> None:
    ticks = iter([100.0, 104.0])  # asked, answered
    with listening(clock=lambda: 110.0) as (port,):
        (outcome,) = dial_all([target(port)], LOOPBACK, 10, 60, clock=lambda: next(ticks))
    assert (outcome.offset, outcome.error) == (8.0, 2.0)


def test_a_further_port_is_asked_without_a_bulk() -> None:
    asked = []

    def serve(connection: socket.socket) -> None:
        asked.append(connection.recv(protocol.MAX_LINE))
        connection.sendall(protocol.greeting_line(protocol.Greeting(1.0, 1500)))

    with server(serve) as port:
        outcome = dial(port, first=False)
    assert outcome.said == "reached"
    assert asked == [f"{WORD}\n".encode()]


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\xff" * 1000, b"1.5 1500\nmore", b"", b"1.5 1500"])
def test_a_stranger_is_told_apart(answer: bytes) -> None:
    with server(say(answer)) as port:
        assert dial(port).said == protocol.STRANGER


def test_a_listener_that_wants_another_word_is_a_stranger() -> None:
    with listening() as (port,):
        assert dial(port, word="another").said == protocol.STRANGER


def test_nobody_listens() -> None:
    assert dial(free_port()).said == "connection refused"


def test_a_name_without_addresses() -> None:
    (outcome,) = dial_all([target(1)], {"peer": []}, 1, 1)
    assert outcome.said == protocol.UNRESOLVED
    assert dial_all([target(1)], {}, 1, 1)[0].said == protocol.UNRESOLVED


def test_the_next_address_is_tried() -> None:
    with listening() as (port,):
        (outcome,) = dial_all([target(port)], {"peer": ["::1", "127.0.0.2", "127.0.0.1"]}, 10, 60)
    assert outcome.said == "reached"


def test_it_accepts_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert dial(silent.getsockname()[1], timeout=0.3).said == protocol.SILENT


def test_it_does_not_even_accept() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _number in range(4)]
        for connection in waiting:
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", port))
        assert dial(port, timeout=0.3).said == protocol.TIMED_OUT
        for connection in waiting:
            connection.close()


@pytest.mark.parametrize(("there", "said"), [(True, protocol.VANISH_THERE), (False, protocol.VANISH_BACK)])
def test_large_packets_that_vanish(there: bool, said: str) -> None:
    with server(narrow(there)) as port:
        outcome = dial(port, timeout=0.5)
    assert outcome.said == said
    assert outcome.mtu == 0  # what the path takes is not known
    assert outcome.interface > 60_000  # of the first attempt, not of the one with small packets


def test_what_stalls_with_small_packets_too_is_not_put_down_to_their_size() -> None:
    with server(narrow(there=True, small_passes=False)) as port:
        assert dial(port, timeout=0.5).said == protocol.STALLED


def test_it_hangs_up_in_the_middle() -> None:
    with server(say(protocol.greeting_line(protocol.Greeting(1.0, 1500)))) as port:
        assert dial(port).said == protocol.CUT_OFF


def test_a_slow_path_is_no_stalled_one() -> None:
    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.recv(protocol.MAX_LINE)
        connection.sendall(protocol.greeting_line(protocol.Greeting(1.0, 1500)))
        left = protocol.BULK
        while left:
            left -= len(connection.recv(4096))
            time.sleep(0.02)
        connection.sendall(protocol.RECEIVED + b"x" * protocol.BULK)

    with server(serve) as port:
        begun = time.monotonic()
        assert dial(port, timeout=0.5).said == "reached"
        assert time.monotonic() - begun > 0.5


def test_many_are_dialled_at_once_and_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_dialler, "PARALLEL", 16)
    with listening() as (port,), socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = [target(silent.getsockname()[1], position, first=False) for position in range(32)]
        reached = [target(port, position) for position in range(32, 132)]
        begun = time.monotonic()
        outcomes = dial_all([*hanging, *reached], LOOPBACK, 0.5, 60)
        passed = time.monotonic() - begun
    assert [outcome.position for outcome in outcomes] == list(range(132))
    assert {outcome.said for outcome in outcomes[:32]} == {protocol.SILENT}
    assert {outcome.said for outcome in outcomes[32:]} == {"reached"}
    assert 1.0 <= passed < 16  # two rounds of the silent ones; one after the other they would take 16 s


def test_what_is_not_tried_in_time_did_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_dialler, "PARALLEL", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent, listening() as (port,):
        outcomes = dial_all([target(silent.getsockname()[1], 0), target(port, 1)], LOOPBACK, 30, 0.5)
    assert [outcome.said for outcome in outcomes] == [protocol.UNFINISHED] * 2


def test_no_descriptor_is_left_open() -> None:
    with listening() as (port,), server(narrow(there=True)) as hole:
        before = len(os.listdir("/proc/self/fd"))
        targets = [target(port, 0), target(hole, 1), target(free_port(), 2), target(1, 3, word="x")]
        dial_all(targets, LOOPBACK, 0.3, 60)
        # The servers' ends of these go on in their threads.
        assert len(os.listdir("/proc/self/fd")) <= before + 4


def test_nodes_begin_with_their_next_one_and_leave_themselves_out() -> None:
    targets = [target(1, position) for position in range(5)]
    pinned = target(2, 0, first=False)
    order = in_turn([targets[0], pinned, *targets[1:]], 2)
    assert order == [targets[3], targets[4], targets[0], pinned, targets[1]]
    assert in_turn([targets[0], pinned, targets[1]], 0) == [pinned, targets[1]]
