# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP sockets of processes, read from /proc: who holds a port, and which processes are connected to each other."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

ESTABLISHED, LISTEN = 0x01, 0x0A  # include/net/tcp_states.h


class Endpoint(NamedTuple):
    """One end of a connection."""

    address: str
    port: int


class TcpSocket(NamedTuple):
    """A row of /proc/net/tcp or tcp6."""

    local: Endpoint
    remote: Endpoint
    state: int
    inode: int


def parse_endpoint(text: str) -> Endpoint:
    """Parse ``0100007F:1F90`` (IPv4) or its 32-digit IPv6 form; IPv4-mapped addresses come back as IPv4.

    The kernel prints each 32-bit word of the address in the host's byte order.
    """
    address_hex, port_hex = text.split(":")
    words = [int(address_hex[i : i + 8], 16) for i in range(0, len(address_hex), 8)]
    packed = b"".join(struct.pack("=I", word) for word in words)
    address = ipaddress.ip_address(packed)
    mapped = getattr(address, "ipv4_mapped", None)
    return Endpoint(str(mapped or address), int(port_hex, 16))


def parse_table(text: str) -> list[TcpSocket]:
    """Parse the text of /proc/net/tcp or tcp6; rows that don't parse are left out."""
    rows = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        try:
            rows.append(
                TcpSocket(parse_endpoint(fields[1]), parse_endpoint(fields[2]), int(fields[3], 16), int(fields[9]))
            )
        except (IndexError, ValueError):
            continue
    return rows


def socket_table(pid: int | str = "self") -> list[TcpSocket]:
    """Every TCP socket in the network namespace of `pid`."""
    rows: list[TcpSocket] = []
    for name in ("tcp", "tcp6"):
        try:
            with open(f"/proc/{pid}/net/{name}", encoding="ascii", errors="replace") as stream:
                rows.extend(parse_table(stream.read()))
        except OSError:
            continue
    return rows


def inodes_of(pid: int) -> set[int]:
    """Inodes of the sockets that a process holds; empty where it may not be read."""
    inodes: set[int] = set()
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return inodes
    for name in names:
        try:
            target = os.readlink(os.path.join(folder, name))
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(int(target[8:-1]))
    return inodes


def connections_of(pids: Iterable[int]) -> dict[int, list[TcpSocket]]:
    """Established connections of each process."""
    found: dict[int, list[TcpSocket]] = {}
    by_inode: dict[int, TcpSocket] | None = None
    for pid in pids:
        inodes = inodes_of(pid)
        if inodes and by_inode is None:
            # One read serves all: a run's processes share their network namespace.
            by_inode = {row.inode: row for row in socket_table(pid) if row.state == ESTABLISHED}
        found[pid] = [by_inode[inode] for inode in inodes if by_inode and inode in by_inode]
    return found


def serving_address(address: str) -> str | None:
    """Where a server listens that peers dial at `address`; None stands for all addresses.

    Debian and Ubuntu let a host's own name resolve to 127.0.1.1, where no peer could reach it.
    """
    try:
        ipaddress.ip_address(address)
        return address
    except ValueError:
        found = {str(row[4][0]) for row in socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)}
        return None if any(ipaddress.ip_address(item).is_loopback for item in found) else address


class PortHolder(NamedTuple):
    """Who listens on a port; pid 0 and no command where another user's process can't be read."""

    pid: int
    command: str


def port_is_free(port: int) -> bool:
    """Whether a server can listen on the port on all addresses, which is what the rendezvous store does."""
    for family, address in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):  # noqa: S104 - bound, never served
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                # Connections of an ended run in TIME_WAIT must not count as a holder.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, port))
                probe.listen(1)
        except OSError as error:
            if family == socket.AF_INET6 and error.errno != errno.EADDRINUSE:  # no IPv6 here
                continue
            return False
    return True


def port_holder(port: int) -> PortHolder | None:
    """The process that listens on the port, or None where nobody does."""
    listeners = {row.inode for row in socket_table() if row.state == LISTEN and row.local.port == port}
    if not listeners:
        return None
    for name in os.listdir("/proc"):
        if name.isdigit() and inodes_of(int(name)) & listeners:
            return PortHolder(int(name), command_of(int(name)))
    return PortHolder(0, "")


def command_of(pid: int) -> str:
    """The program and its script; further arguments are left out, since they may hold secrets."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            words = stream.read().decode("utf-8", "replace").split("\0")
    except OSError:
        return ""
    return " ".join(words[:1] + [word for word in words[1:2] if word and not word.startswith("-")])
