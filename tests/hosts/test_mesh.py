# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be wrong between two hosts although each is right by itself: planted, and named by preflight."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tools.hosts.bed import Bed


@contextlib.contextmanager
def dropped(bed: Bed, host: str, *rule: str) -> Iterator[None]:
    """Incoming packets that a rule of nftables matches vanish on a host."""
    hook = "{ type filter hook input priority filter; }"
    bed.execute(host, "nft", "add", "table", "inet", "planted")
    bed.execute(host, "nft", "add", "chain", "inet", "planted", "input", hook)
    bed.execute(host, "nft", "add", "rule", "inet", "planted", "input", *rule, "drop")
    try:
        yield
    finally:
        bed.execute(host, "nft", "delete", "table", "inet", "planted")


def test_nothing_is_wrong_between_bare_hosts(preflight: Any) -> None:
    assert preflight().found() == []


def test_two_hosts_that_do_not_reach_each_other(bed: Bed, preflight: Any) -> None:
    with dropped(bed, "host2", "ip", "saddr", bed.hosts["host1"]):
        outcome = preflight()
    assert outcome.found() == [("pair_unreachable", ["host1", "host2"], "error")]


def test_a_host_that_nobody_reaches(bed: Bed, preflight: Any) -> None:
    with dropped(bed, "host1", "tcp", "dport", "32768-60999", "ct", "state", "new"):
        outcome = preflight()
    assert outcome.found() == [("node_unreachable_by_peers", ["host1"], "error")]


def test_a_head_whose_rendezvous_port_is_closed(bed: Bed, preflight: Any) -> None:
    with dropped(bed, "host0", "iifname", "!=", "lo", "tcp", "dport", "29500"):
        outcome = preflight()
    assert outcome.found() == [("head_unreachable", ["host1", "host2"], "error")]
    assert "29500" in outcome.finding("head_unreachable")["expected"]


def test_large_packets_that_vanish(bed: Bed, preflight: Any) -> None:
    """As jumbo frames do behind a switch that does not take them, where nothing tells the sender."""
    # Containers hand each other several packets as one, which would be taken for a large one.
    bed.execute("host0", "ip", "link", "set", "eth0", "gso_max_segs", "1")
    with dropped(bed, "host1", "ip", "saddr", bed.hosts["host0"], "ip", "length", ">", "1400"):
        outcome = preflight()
    bed.execute("host0", "ip", "link", "set", "eth0", "gso_max_segs", "65535")
    assert [row[0] for row in outcome.found()] == ["mtu_blackhole"]
    assert "host1" in outcome.finding("mtu_blackhole")["hosts"]


def test_a_clock_that_is_off(bed: Bed, preflight: Any) -> None:
    """Containers share the clock of this machine, so the interpreter is told another time."""
    present = "dpkg-query --show faketime >/dev/null 2>&1"
    bed.execute("host2", "sh", "-c", f"{present} || {{ apt-get update && apt-get install --yes faketime; }}")
    library = "$(dpkg --listfiles libfaketime | grep libfaketime.so.1)"
    environment = f"LD_PRELOAD={library} FAKETIME=+5s DONT_FAKE_MONOTONIC=1"
    script = f"""printf '#!/bin/sh\\n%s exec /usr/bin/python3 "$@"\\n' "{environment}" >$1 && chmod 755 $1"""
    bed.execute("host2", "sh", "-c", script, "sh", "/usr/local/bin/python-ahead")
    outcome = preflight({"host2": {"ansible_python_interpreter": "/usr/local/bin/python-ahead"}})
    assert outcome.found() == [("clock_offset", ["host2"], "error")]
    assert "5." in outcome.finding("clock_offset")["found"]


def test_a_name_that_means_another_host(bed: Bed, preflight: Any) -> None:
    """host2 takes the head's name for host1's address; every host takes its own name for the loopback, as on Debian."""
    hosts = bed.execute("host2", "cat", "/etc/hosts")
    wrong = hosts.replace(f"{bed.hosts['host0']} host0", f"{bed.hosts['host1']} host0")
    bed.execute("host2", "sh", "-c", 'printf "%s\\n" "$1" >/etc/hosts', "sh", wrong)
    try:
        outcome = preflight({"host0": {"axolotl_address": "host0"}})
    finally:
        bed.execute("host2", "sh", "-c", 'printf "%s\\n" "$1" >/etc/hosts', "sh", hosts)
    rows = [row for row in outcome.found() if row[0] == "name_resolution"]
    assert rows == [("name_resolution", ["host2"], "error")]
