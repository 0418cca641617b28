# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds which port and who is connected to whom, from made-up tables and from real sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.helpers import free_port, wait_for

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import sockets
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.sockets import Endpoint

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ROW = "   0: {} {} {} 00000000:00000000 00:00000000 00000000  1000        0 {} 1 0000000000000000 100 0 0 10 0\n"
little_endian = pytest.mark.skipif(sys.byteorder != "little", reason="the rows are of a little-endian machine")


@little_endian
@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("0100007F:1F90", "127.0.0.1", 8080),
        ("00000000:0016", "0.0.0.0", 22),  # noqa: S104 - as text
        ("0A02000A:734A", "10.0.2.10", 29514),
        ("00000000000000000000000001000000:1F90", "::1", 8080),
        ("00000000000000000000000000000000:0050", "::", 80),
        ("B80D01200000000000000000010000FF:01BB", "2001:db8::ff00:1", 443),
        ("0000000000000000FFFF00000100007F:1F90", "127.0.0.1", 8080),
    ],
)
def test_an_endpoint_as_the_kernel_prints_it(text: str, address: str, port: int) -> None:
    assert sockets.parse_endpoint(text) == Endpoint(address, port)


@little_endian
def test_rows_of_the_table() -> None:
    text = HEADER + ROW.format("0100007F:1F90", "00000000:0000", "0A", 111)
    text += ROW.format("0100007F:1F90", "0100007F:A000", "01", 222)
    assert sockets.parse_table(text) == [
        sockets.TcpSocket(Endpoint("127.0.0.1", 8080), Endpoint("0.0.0.0", 0), sockets.LISTEN, 111),  # noqa: S104
        sockets.TcpSocket(Endpoint("127.0.0.1", 8080), Endpoint("127.0.0.1", 40960), sockets.ESTABLISHED, 222),
    ]


def test_rows_that_do_not_parse_are_left_out() -> None:
    good = ROW.format("0100007F:1F90", "00000000:0000", "0A", 111)
    bad = [
        "",
        "nonsense",
        ROW.format("xyz", "00000000:0000", "0A", 1),
        ROW.format("01:1", "0102030405:2", "0A", 2),
    ]
    assert [row.inode for row in sockets.parse_table(HEADER + "\n".join([*bad, good]))] == [111]
    assert sockets.parse_table("") == []


@given(st.text(max_size=300))
def test_no_text_makes_the_table_fail(text: str) -> None:
    sockets.parse_table(HEADER + text)


@pytest.fixture
def peer() -> Iterator[tuple[subprocess.Popen[str], socket.socket]]:
    """Another process and a connection to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = (
            "import socket, sys\n"
            f"connection = socket.create_connection(('127.0.0.1', {server.getsockname()[1]}))\n"
            "print('connected', flush=True)\n"
            "sys.stdin.read()\n"
        )
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            connection = server.accept()[0]
            assert process.stdout is not None
            assert process.stdout.readline() == "connected\n"
            with connection:
                yield process, connection
            process.kill()


def test_two_connected_processes_hold_the_two_ends(peer: tuple[subprocess.Popen[str], socket.socket]) -> None:
    process, connection = peer
    local, remote = Endpoint(*connection.getsockname()), Endpoint(*connection.getpeername())
    found = sockets.connections_of([os.getpid(), process.pid])
    ours = [(row.local, row.remote) for row in found[os.getpid()]]
    theirs = [(row.local, row.remote) for row in found[process.pid]]
    assert (local, remote) in ours
    assert theirs == [(remote, local)]


def test_listening_is_no_connection(peer: tuple[subprocess.Popen[str], socket.socket]) -> None:
    states = {row.state for rows in sockets.connections_of([os.getpid()]).values() for row in rows}
    assert states == {sockets.ESTABLISHED}


def test_a_process_that_is_gone_has_no_connections() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert sockets.connections_of([gone.pid]) == {gone.pid: []}
    assert sockets.inodes_of(gone.pid) == set()
    assert sockets.command_of(gone.pid) == ""


def test_a_port_without_a_listener_is_free_and_held_by_nobody() -> None:
    port = free_port()
    assert sockets.port_is_free(port)
    assert sockets.port_holder(port) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - for the length of a test
def test_a_listener_takes_the_port_and_is_named(address: str) -> None:
    with socket.create_server((address, 0)) as server:
        port = server.getsockname()[1]
        assert not sockets.port_is_free(port)
        holder = sockets.port_holder(port)
        assert holder is not None
        assert holder.pid == os.getpid()
        assert holder.command == sockets.command_of(os.getpid()) != ""
    assert sockets.port_is_free(port)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 on this machine")
def test_a_listener_on_ipv6_alone_takes_the_port_too() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        assert not sockets.port_is_free(port)
        holder = sockets.port_holder(port)
        assert holder is not None
        assert holder.pid == os.getpid()


def test_connections_of_an_ended_server_do_not_hold_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted = server.accept()[0]
        accepted.close()  # the side that closes first stays in TIME_WAIT
        assert client.recv(1) == b""
        client.close()
    assert sockets.port_is_free(port)


def test_a_command_is_shown_without_the_arguments_that_may_hold_secrets() -> None:
    command = [sys.executable, "-c", "import sys; sys.stdin.read()", "--token", "s3cr3t"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        # For a moment after its start a process has no arguments yet.
        assert wait_for(lambda: sockets.command_of(process.pid)) == sys.executable
        process.kill()


def test_a_script_is_part_of_what_is_shown(tmp_path: os.PathLike[str]) -> None:
    script = os.path.join(tmp_path, "serve.py")
    with open(script, "w", encoding="utf-8") as stream:
        stream.write("import sys; print('up', flush=True); sys.stdin.read()")
    command = [sys.executable, script, "s3cr3t"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert sockets.command_of(process.pid) == f"{sys.executable} {script}"
        process.kill()


def test_a_name_that_means_loopback_serves_on_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"head": ["127.0.1.1"], "both": ["10.0.0.1", "::1"], "far": ["10.0.0.1", "10.0.0.2"]}

    def resolve(host: str, port: object, **_unused: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in names[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert sockets.serving_address("head") is None
    assert sockets.serving_address("both") is None
    assert sockets.serving_address("far") == "far"
    for literal in ("127.0.0.1", "::1", "10.0.0.1"):  # what is written as an address is meant
        assert sockets.serving_address(literal) == literal
