# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's own words on a connection are read in the right place; loopback's interface is there to compare with."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import tcp_path

LOOPBACK_MTU = int(Path("/sys/class/net/lo/mtu").read_text())


def pair(address: str) -> tuple[socket.socket, socket.socket]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        client = socket.create_connection(server.getsockname()[:2])
        return client, server.accept()[0]


def largest(address: str) -> int:
    """Loopback's MTU, but a packet of IPv4 can't be longer than its 16-bit length."""
    return LOOPBACK_MTU if ":" in address else min(LOOPBACK_MTU, 65_535)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_both_ends_know_the_mtu_of_the_interface(address: str) -> None:
    if ":" in address and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    client, server = pair(address)
    with client, server:
        for end in (client, server):
            assert tcp_path.mtu_of(end) == (largest(address), largest(address))


def test_a_socket_without_a_connection_knows_nothing() -> None:
    class Gone:
        family = socket.AF_INET

        def getsockopt(self, *unused: int) -> bytes:
            raise OSError

    class Old(Gone):
        def getsockopt(self, *unused: int) -> bytes:
            return b"\0" * 20

    for connection in (Gone(), Old()):
        assert tcp_path.mtu_of(connection) == (0, 0)  # type: ignore[arg-type]


def test_what_is_not_read_is_confirmed_up_to_the_buffer_of_the_other_side() -> None:
    client, server = pair("127.0.0.1")
    with client, server:
        client.sendall(b"x")
        assert server.recv(1) == b"x"
        assert tcp_path.unacknowledged(client) == 0
        client.setblocking(False)
        sent = 0
        try:
            while True:
                sent += client.send(b"x" * 65536)
        except BlockingIOError:
            pass
        assert 0 < tcp_path.unacknowledged(client) < sent


class Told:
    """A connection of which the kernel says 1000, 1001, 1002 ... and, last of all, what was sent again."""

    family = socket.AF_INET

    def __init__(self, options: int = 0, sent_again: int = 0) -> None:
        self.options = options
        self.sent_again = sent_again

    def getsockopt(self, _level: int, _name: int, size: int) -> bytes:
        flags = struct.pack("=8B", 0, 0, 0, 0, 0, self.options, 0, 0)
        return (flags + struct.pack("=24I", *range(1000, 1023), self.sent_again))[:size]


# struct tcp_info, include/uapi/linux/tcp.h: of the 32-bit words tcpi_snd_mss is the 3rd, tcpi_pmtu the 14th,
# tcpi_advmss the 20th and tcpi_total_retrans the 24th.
@pytest.mark.parametrize(
    ("connection", "mtu"),
    [
        (Told(), (1019 + 40, 1013)),
        (Told(options=1), (1019 + 52, 1013)),
        (Told(sent_again=3), (1019 + 40, 1013)),  # 1002 + 40 is no less than the path's
    ],
)
def test_the_words_are_where_the_header_of_the_kernel_has_them(connection: Told, mtu: tuple[int, int]) -> None:
    assert tcp_path.mtu_of(connection) == mtu  # type: ignore[arg-type]


def test_what_is_sent_again_in_smaller_packets_tells_the_path() -> None:
    class Smaller(Told):
        def getsockopt(self, level: int, name: int, size: int) -> bytes:
            told = bytearray(super().getsockopt(level, name, size))
            struct.pack_into("=I", told, 8 + 4 * 2, 500)
            return bytes(told)

    assert tcp_path.mtu_of(Smaller(sent_again=3)).path == 540  # type: ignore[arg-type]
    assert tcp_path.mtu_of(Smaller()).path == 1013  # type: ignore[arg-type]
