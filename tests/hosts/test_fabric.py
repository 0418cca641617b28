# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What preflight says of a fabric: a simulated one, whose adapters are shown where the kernel shows real ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.fabric import Fabric, simulated

from tools.hosts.bed import Bed

NODES = ["host0", "host1", "host2"]


@pytest.fixture(scope="module")
def fabric(bare_hosts: Bed) -> Iterator[Fabric]:
    with simulated(bare_hosts, NODES) as fabric:
        for host in NODES:
            fabric.wait_active(host)
        yield fabric


def of_the_fabric(outcome: Any) -> list[tuple[str, list[str], str]]:
    return [row for row in outcome.found() if row[0].startswith("ib_")]


def test_ports_that_are_up_are_no_finding(fabric: Fabric, preflight: Any) -> None:
    fabric.show()
    outcome = preflight()
    assert of_the_fabric(outcome) == []
    ports = {
        host: [port["state"] for hca in known["infiniband"]["hcas"].values() for port in hca["ports"].values()]
        for host, known in outcome.artifact["evidence"]["fingerprints"].items()
    }
    assert ports == {host: ["ACTIVE"] for host in NODES}


def test_a_port_that_goes_down_is_named_and_no_other(fabric: Fabric, preflight: Any) -> None:
    fabric.unplug("host1")
    fabric.show()
    outcome = preflight()
    assert of_the_fabric(outcome) == [("ib_port_down", ["host1"], "error")]
    finding = outcome.finding("ib_port_down")
    assert "port 1" in finding["expected"]
    assert "ibsim" in finding["expected"] or "mlx" in finding["expected"]
    assert "DOWN" in finding["found"].upper()
    assert "cable" in finding["remedy"]
    fabric.plug("host1")
    fabric.wait_active("host1")
    fabric.show()
    assert of_the_fabric(preflight()) == []


def test_a_rate_below_its_peers(fabric: Fabric, preflight: Any) -> None:
    fabric.show()
    fabric.plant("host2", "rate", "2.5 Gb/sec (1X)")
    assert of_the_fabric(preflight()) == [("ib_rate_low", ["host2"], "error")]
