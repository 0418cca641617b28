# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's network interfaces, and which of them carries the training's address, the default route and this login.

Addresses come from the kernel itself by rtnetlink(7), since not every host has an `ip` that speaks JSON.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from . import bounded

RESOLVING = 10.0
"""Seconds to wait for a name; glibc itself gives up on one silent server after 2 x 5 s (resolv.conf(5))."""
MOST_INTERFACES = 64
"""A host of containers has thousands. Those with an address or hardware come first."""

IFF_UP, IFF_LOOPBACK = 0x1, 0x8  # include/uapi/linux/if.h
ARPHRD_INFINIBAND = 32  # include/uapi/linux/if_arp.h
# include/uapi/linux/{netlink,rtnetlink,if_addr}.h
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_NLMSG_ERROR, _NLMSG_DONE, _RTM_NEWADDR, _RTM_GETADDR = 2, 3, 20, 22
_IFA_ADDRESS, _IFA_LOCAL = 1, 2

Addresses = Mapping[str, "list[str]"]


def read(
    address: str, head_address: str, login_address: str = "", sysfs: str = "/sys", proc: str = "/proc"
) -> dict[str, Any]:
    """Everything about the network of this host.

    Args:
        address: where peers reach this node, a name or an IP address.
        head_address: where they reach the head.
        login_address: where the controller connects to, for a login whose own environment does not say; or empty.

    Returns:
        interfaces (name to addresses with prefix, mtu, speed in Mb/s, state, up, loopback and kind), left_out (how
        many interfaces are not listed), default_route and login (names of interfaces, or None), and for address and
        head what the name resolves to here (name, resolved, error) and the interface that carries it; head's is the
        interface from which packets to it leave.
    """
    addresses = interface_addresses()
    every = _interfaces(addresses, sysfs)
    ranked = sorted(every, key=lambda name: (not every[name]["addresses"], every[name]["kind"] == "virtual", name))
    kept = sorted(ranked[:MOST_INTERFACES])
    here, head = resolve(address), resolve(head_address)
    return {
        "interfaces": {name: every[name] for name in kept},
        "left_out": len(every) - len(kept),
        "default_route": _default_route(proc),
        "login": _login(login_address, addresses),
        "address": {**here, "interface": _carrier(here["resolved"], addresses)},
        "head": {**head, "interface": _way_to(head["resolved"], addresses)},
    }


def interface_addresses() -> dict[str, list[str]]:
    """Interface to its addresses with prefix length, such as 192.0.2.1/24; empty where the kernel does not say."""
    found: dict[str, list[str]] = {}
    try:
        for index, address in _dumped_addresses():
            found.setdefault(socket.if_indextoname(index), []).append(address)
    except OSError:  # no netlink, or an interface that has just gone
        pass
    return found


def _dumped_addresses() -> Iterator[tuple[int, str]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(5)
        kernel.bind((0, 0))
        body = struct.pack("=BBBBI", socket.AF_UNSPEC, 0, 0, 0, 0)
        kernel.send(struct.pack("=IHHII", 16 + len(body), _RTM_GETADDR, _DUMP, 1, 0) + body)
        while True:
            data = kernel.recv(1 << 16)
            while len(data) >= 16:
                length, kind = struct.unpack_from("=IH", data)
                if kind in (_NLMSG_DONE, _NLMSG_ERROR) or length < 16:
                    return
                if kind == _RTM_NEWADDR:
                    yield parse_address(data[16:length])
                data = data[(length + 3) & ~3 :]


def parse_address(message: bytes) -> tuple[int, str]:
    """Parse an ifaddrmsg with its attributes: the interface's index, and its address with prefix length.

    On a point-to-point link IFA_ADDRESS is the other end's, and IFA_LOCAL the own one (rtnetlink(7)).
    """
    family, prefix, _flags, _scope, index = struct.unpack_from("=BBBBI", message)
    attributes: dict[int, bytes] = {}
    rest = message[8:]
    while len(rest) >= 4:
        length, kind = struct.unpack_from("=HH", rest)
        if length < 4:
            break
        attributes[kind] = rest[4:length]
        rest = rest[(length + 3) & ~3 :]
    packed = attributes.get(_IFA_LOCAL) or attributes[_IFA_ADDRESS]
    return index, f"{socket.inet_ntop(family, packed)}/{prefix}"


def _interfaces(addresses: Addresses, sysfs: str) -> dict[str, dict[str, Any]]:
    base = os.path.join(sysfs, "class", "net")
    try:
        names = [name for name in os.listdir(base) if os.path.isdir(os.path.join(base, name))]
    except OSError:
        names = list(addresses)
    return {name: _interface(os.path.join(base, name), addresses.get(name, [])) for name in names}


def _interface(path: str, addresses: list[str]) -> dict[str, Any]:
    flags = int(_text(path, "flags") or "0", 16)
    speed = _number(path, "speed")
    return {
        "addresses": addresses,
        "mtu": _number(path, "mtu"),
        "speed": speed if speed and speed > 0 else None,  # -1, or no answer at all, where it means nothing
        "state": _text(path, "operstate"),
        "up": bool(flags & IFF_UP),
        "loopback": bool(flags & IFF_LOOPBACK),
        "kind": _kind(path, flags),
    }


def _kind(path: str, flags: int) -> str:
    """loopback, infiniband, physical, what the kernel calls it (bridge, bond, vlan ...), or virtual."""
    if flags & IFF_LOOPBACK:
        return "loopback"
    if _number(path, "type") == ARPHRD_INFINIBAND:
        return "infiniband"
    for line in (_text(path, "uevent") or "").splitlines():
        if line.startswith("DEVTYPE="):
            return line.partition("=")[2]
    if os.path.exists(os.path.join(path, "tun_flags")):
        return "tun"
    return "physical" if os.path.exists(os.path.join(path, "device")) else "virtual"


def resolve(name: str) -> dict[str, Any]:
    """What a name, or an IP address, resolves to on this host.

    Returns:
        name, resolved (IP addresses in the resolver's order), and error, None where it does.
    """
    try:
        rows = bounded.within(RESOLVING, socket.getaddrinfo, name, None, 0, socket.SOCK_STREAM)
    except (OSError, UnicodeError, bounded.TookTooLong) as error:
        return {"name": name, "resolved": [], "error": str(getattr(error, "strerror", None) or error)}
    return {"name": name, "resolved": list(dict.fromkeys(str(row[4][0]) for row in rows)), "error": None}


def _carrier(wanted: list[str], addresses: Addresses) -> str | None:
    """The interface with one of these addresses; one that is no loopback where there are several."""
    for loopback in (False, True):
        for item in wanted:
            if ipaddress.ip_address(item.partition("%")[0]).is_loopback == loopback:
                for interface, known in addresses.items():
                    if any(_holds(address, item) for address in known):
                        return interface
    return None


def _holds(address: str, wanted: str) -> bool:
    """Whether it is this address; the whole of 127.0.0.0/8 belongs to the loopback."""
    network, item = ipaddress.ip_interface(address), ipaddress.ip_address(wanted.partition("%")[0])
    return network.ip == item or (item.is_loopback and network.ip.is_loopback and item in network.network)


def _way_to(wanted: list[str], addresses: Addresses) -> str | None:
    """The interface with the address that the kernel would send from; a datagram socket connects without a packet."""
    for item in wanted:
        family = socket.AF_INET6 if ":" in item else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((item, 9))
                return _carrier([str(probe.getsockname()[0])], addresses)
        except OSError:
            continue
    return None


def _login(address: str, addresses: Addresses) -> str | None:
    """The interface by which Ansible has come; sudo keeps SSH_CONNECTION from us, and NAT makes the address another."""
    words = os.environ.get("SSH_CONNECTION", "").split()  # client, its port, server, its port (ssh(1))
    wanted = words[2:3] or (resolve(address)["resolved"] if address else [])
    try:
        return _carrier([item for item in wanted if not ipaddress.ip_address(item).is_loopback], addresses)
    except ValueError:
        return None


def _default_route(proc: str) -> str | None:
    """The interface of the default route, IPv4 first, of several the one with the lowest metric."""
    found: list[tuple[int, int, str]] = []
    for line in _lines(os.path.join(proc, "net", "route"))[1:]:
        fields = line.split()  # Iface Destination Gateway Flags RefCnt Use Metric Mask ...
        if len(fields) > 7 and fields[1] == fields[7] == "00000000":
            found.append((4, int(fields[6]), fields[0]))
    for line in _lines(os.path.join(proc, "net", "ipv6_route")):
        fields = line.split()  # destination, its prefix, source, its prefix, next hop, metric, ..., interface
        if len(fields) > 9 and fields[0].strip("0") == "" and fields[1] == "00" and fields[9] != "lo":
            found.append((6, int(fields[5], 16), fields[9]))
    return min(found)[2] if found else None


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            return stream.read().splitlines()
    except OSError:
        return []


def _text(path: str, name: str) -> str | None:
    try:
        with open(os.path.join(path, name), encoding="utf-8", errors="replace") as stream:
            return stream.read(4096).strip() or None
    except OSError:  # the speed of an interface that is down is no value but an error
        return None


def _number(path: str, name: str) -> int | None:
    try:
        return int(_text(path, name) or "")
    except ValueError:
        return None
