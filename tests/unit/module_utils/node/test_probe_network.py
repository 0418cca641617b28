# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interfaces and addresses as the kernel has them, and which of them carries what."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from unit import sysfs

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import probe_network

ADDRESSES = {
    "lo": ["127.0.0.1/8", "::1/128"],
    "eth0": ["192.0.2.11/24", "fe80::1/64"],
    "ib0": ["198.51.100.11/24", "2001:db8::11/64"],
}
ROUTES = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth1	00000000	010200C0	0003	0	0	200	00000000	0	0	0
eth0	00000000	010200C0	0003	0	0	100	00000000	0	0	0
ib0	006433C6	00000000	0001	0	0	0	00FFFFFF	0	0	0
"""
ROUTES6 = f"""\
{"0" * 32} 00 {"0" * 32} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth2
{"0" * 32} 00 {"0" * 32} 00 {"0" * 32} ffffffff 00000001 00000000 00200200 lo
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(probe_network, "interface_addresses", lambda: ADDRESSES)
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    sysfs.interface(tmp_path / "sys", "lo", "loopback")
    sysfs.interface(tmp_path / "sys", "eth0")
    sysfs.interface(tmp_path / "sys", "ib0", "infiniband")
    return tmp_path


def read(tree: Path, address: str = "198.51.100.11", head: str = "127.0.0.1", login: str = "") -> dict[str, Any]:
    return probe_network.read(address, head, login, str(tree / "sys"), str(tree / "proc"))


def test_interfaces_are_as_sysfs_shows_them(tree: Path) -> None:
    sysfs.interface(tree / "sys", "down0", flags="0x1002", operstate="down", speed=-1)
    (tree / "sys/class/net/bonding_masters").write_text("bond0\n")  # a file among the folders
    found = read(tree)["interfaces"]
    assert found["ib0"] == {
        "addresses": ADDRESSES["ib0"],
        "mtu": 2044,
        "speed": 100000,
        "state": "up",
        "up": True,
        "loopback": False,
        "kind": "infiniband",
    }
    assert (found["lo"]["loopback"], found["lo"]["up"], found["lo"]["kind"]) == (True, True, "loopback")
    down = found["down0"]
    assert (down["up"], down["state"], down["speed"], down["addresses"]) == (False, "down", None, [])
    assert set(found) == {"lo", "eth0", "ib0", "down0"}


@pytest.mark.parametrize("kind", ["physical", "bridge", "bond", "vlan", "tun", "virtual"])
def test_kinds_of_interfaces(tree: Path, kind: str) -> None:
    sysfs.interface(tree / "sys", "x0", kind)
    assert read(tree)["interfaces"]["x0"]["kind"] == kind


def test_of_very_many_interfaces_those_with_an_address_are_kept(tree: Path) -> None:
    for number in range(200):
        sysfs.interface(tree / "sys", f"cali{number}", "virtual")
    sysfs.interface(tree / "sys", "ens9")
    found = read(tree)
    assert len(found["interfaces"]) == probe_network.MOST_INTERFACES
    assert found["left_out"] == 204 - probe_network.MOST_INTERFACES
    assert {"lo", "eth0", "ib0", "ens9"} <= set(found["interfaces"])


@pytest.mark.parametrize(
    ("address", "interface"),
    [
        ("198.51.100.11", "ib0"),
        ("2001:db8::11", "ib0"),
        ("192.0.2.11", "eth0"),
        ("127.0.0.1", "lo"),
        ("127.0.1.1", "lo"),
        ("198.51.100.12", None),
    ],
)
def test_who_carries_an_address(tree: Path, address: str, interface: str | None) -> None:
    found = read(tree, address)["address"]
    assert found == {"name": address, "resolved": [address], "error": None, "interface": interface}


def test_an_address_that_leads_away_is_preferred_to_the_loopback(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(socket.AF_INET, 1, 6, "", (item, 0)) for item in ("127.0.1.1", "198.51.100.11", "127.0.1.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments: rows)
    found = read(tree, "gpu-a")["address"]
    assert (found["resolved"], found["interface"]) == (["127.0.1.1", "198.51.100.11"], "ib0")


def test_a_name_that_does_not_resolve_says_why(tree: Path) -> None:
    found = read(tree, "gpu-a.invalid", "x" * 300)
    assert (found["address"]["resolved"], found["address"]["interface"]) == ([], None)
    assert found["address"]["error"]
    assert found["head"]["error"]


def test_a_resolver_that_does_not_answer(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_network, "RESOLVING", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments: time.sleep(5))
    begin = time.monotonic()
    assert "no answer within" in read(tree)["address"]["error"]
    assert time.monotonic() - begin < 2


def test_the_login_comes_by_an_interface(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(tree)["login"] is None
    # sudo keeps the variable away: then the address that the controller dials tells, if it is one of this host.
    assert read(tree, login="192.0.2.11")["login"] == "eth0"
    assert read(tree, login="203.0.113.1")["login"] is None
    assert read(tree, login="127.0.0.1")["login"] is None
    monkeypatch.setenv("SSH_CONNECTION", "198.51.100.1 50514 198.51.100.11 22")
    assert read(tree, login="192.0.2.11")["login"] == "ib0"
    monkeypatch.setenv("SSH_CONNECTION", "what? is this?")
    assert read(tree)["login"] is None


def test_the_default_route(tree: Path) -> None:
    assert read(tree)["default_route"] is None
    sysfs.write(tree / "proc/net", ipv6_route=ROUTES6)
    assert read(tree)["default_route"] == "eth2"
    sysfs.write(tree / "proc/net", route=ROUTES)
    assert read(tree)["default_route"] == "eth0"


def message(family: int, prefix: int, index: int, *attributes: tuple[int, bytes]) -> bytes:
    packed = struct.pack("=BBBBI", family, prefix, 0, 0, index)
    for kind, value in attributes:
        packed += struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
    return packed


def test_addresses_in_the_kernels_messages() -> None:
    own, other = socket.inet_aton("198.51.100.11"), socket.inet_aton("198.51.100.12")
    label = (3, b"ib0\0")
    assert probe_network.parse_address(message(socket.AF_INET, 24, 7, (1, own), (2, own), label)) == (
        7,
        "198.51.100.11/24",
    )
    assert probe_network.parse_address(message(socket.AF_INET, 32, 7, label, (1, other), (2, own))) == (
        7,
        "198.51.100.11/32",
    )
    packed = socket.inet_pton(socket.AF_INET6, "2001:db8::11")
    assert probe_network.parse_address(message(socket.AF_INET6, 64, 3, (1, packed))) == (3, "2001:db8::11/64")


def test_the_kernel_itself() -> None:
    found = probe_network.interface_addresses()
    assert "127.0.0.1/8" in found["lo"]
    assert probe_network.read("127.0.0.1", "127.0.0.1")["head"]["interface"] == "lo"


@pytest.mark.skipif(not shutil.which("ip"), reason="needs iproute2 to compare with")
def test_the_kernel_says_the_same_to_ip() -> None:
    said = json.loads(subprocess.run(["ip", "-j", "addr"], check=True, capture_output=True).stdout)
    expected = {
        link["ifname"]: [f"{entry['local']}/{entry['prefixlen']}" for entry in link["addr_info"]]
        for link in said
        if link["addr_info"]
    }
    found = probe_network.interface_addresses()
    both = set(found) & set(expected)  # one may come or go meanwhile
    assert "lo" in both
    assert {name: sorted(found[name]) for name in both} == {name: sorted(expected[name]) for name in both}
