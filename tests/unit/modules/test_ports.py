# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""port_listener and port_probe as real modules: they reach each other, and a stranger does not pass for the head."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from unit.helpers import free_port, run_module, wait_for

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import processes
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.processes import Identity

WORD = "0123456789ab-0123456789ab"


def listen(ports: list[int], seconds: float = 60, **options: Any) -> dict[str, Any]:
    return run_module(
        "port_listener", {"address": "127.0.0.1", "ports": ports, "word": WORD, "seconds": seconds, **options}
    )


def probe(port: int, timeout: float = 5, address: str = "127.0.0.1") -> str:
    arguments = {"address": address, "ports": [port], "word": WORD, "timeout": timeout}
    result = run_module("port_probe", arguments, check=True)
    assert result["changed"] is False
    return str(result["ports"][str(port)])


@contextmanager
def stranger(answer: bytes) -> Iterator[int]:
    """Another server, which says something of its own and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            try:
                while True:
                    connection = server.accept()[0]
                    with connection:
                        connection.sendall(answer)
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.fixture
def listeners() -> Iterator[list[Identity]]:
    """Listeners that a test leaves behind."""
    started: list[Identity] = []
    yield started
    processes.signal_all(started, 9)


def test_they_reach_each_other_until_it_is_closed(listeners: list[Identity]) -> None:
    ports = [free_port(), free_port()]
    listening = listen(ports)
    identity = Identity(*listening["listener"])
    listeners.append(identity)
    assert (listening["changed"], listening["listening"], listening["refused"]) == (False, ports, {})
    assert processes.is_alive(identity)
    for port in (*ports, ports[0]):
        assert probe(port) == "reached"
    closed = listen([], close=list(identity))
    assert (closed["listening"], closed["listener"]) == ([], [])
    assert not processes.is_alive(identity)
    assert probe(ports[0]) == "connection refused"


def test_the_listener_goes_by_itself(listeners: list[Identity]) -> None:
    port = free_port()
    identity = Identity(*listen([port], seconds=0.5)["listener"])
    listeners.append(identity)
    wait_for(lambda: not processes.is_alive(identity))
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_the_listener_leaves_nothing_of_the_module_behind(listeners: list[Identity]) -> None:
    identity = Identity(*listen([free_port()])["listener"])  # this returns only if the pipes are let go
    listeners.append(identity)
    assert os.getsid(identity.pid) != os.getsid(0)
    for descriptor in (0, 1, 2):
        assert os.readlink(f"/proc/{identity.pid}/fd/{descriptor}") == os.devnull


def test_closing_does_not_touch_another_process_with_that_pid() -> None:
    pid, start_time = Identity(*processes.read_process(os.getpid()).identity)  # type: ignore[union-attr]
    assert listen([], close=[pid, start_time - 1])["listening"] == []


def test_a_taken_port_is_refused_with_its_holder_and_the_other_one_opened(listeners: list[Identity]) -> None:
    other = free_port()
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        result = listen([taken, other])
    listeners.append(Identity(*result["listener"]))
    assert result["listening"] == [other]
    assert result["refused"][str(taken)]["holder"]["pid"] == os.getpid()
    assert "in use" in result["refused"][str(taken)]["error"].lower()


def test_an_address_that_does_not_resolve_is_refused() -> None:
    port = free_port()
    result = run_module("port_listener", {"address": "head.invalid", "ports": [port], "word": WORD})
    assert (result["listening"], result["listener"]) == ([], [])
    assert result["refused"][str(port)]["holder"] is None
    assert result["refused"][str(port)]["error"]


def test_an_address_of_another_machine_means_all(listeners: list[Identity]) -> None:
    port = free_port()
    result = run_module("port_listener", {"address": "192.0.2.1", "ports": [port], "word": WORD, "seconds": 60})
    listeners.append(Identity(*result["listener"]))
    assert result["listening"] == [port]
    assert probe(port) == "reached"


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.6\r\n", b"", b"\xff" * 1000, WORD.encode() + b"x\n"])
def test_a_stranger_is_told_apart(answer: bytes) -> None:
    with stranger(answer) as port:
        said = probe(port)
    assert said == "another server answers" or (answer == b"" and "reset" in said)


def test_why_a_port_is_not_reached() -> None:
    assert probe(free_port()) == "connection refused"
    assert "does not resolve" in probe(free_port(), address="head.invalid")
    with socket.socket() as silent:  # it accepts, and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        assert probe(silent.getsockname()[1], timeout=0.3) != "reached"
