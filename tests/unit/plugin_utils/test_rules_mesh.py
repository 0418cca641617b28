# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is planted in a clean mesh gives exactly its finding, on the nodes that explain it."""

from __future__ import annotations

import copy
from itertools import permutations
from typing import Any

import pytest
from unit.fleets import fingerprints, plan_of
from unit.meshes import fail, listeners, probes

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import mesh_protocol as protocol
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import number_ranges
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import mesh_clocks, rules_mesh
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import Finding

Nodes = dict[str, dict[str, Any]]
Pairs = list[tuple[int, int]]


class Fleet:
    """A clean fleet, to plant something in and to examine."""

    def __init__(self, size: int, **changes: Any) -> None:
        self.plan = plan_of(size, **changes)
        self.fingerprints = fingerprints(self.plan)
        self.listeners = listeners(self.plan)
        self.probes = probes(self.plan)

    def fail(self, said: str, *pairs: tuple[int, int]) -> None:
        fail(self.plan, self.probes, said, *pairs)

    def findings(self) -> list[Finding]:
        return rules_mesh.examine(self.plan, self.fingerprints, self.listeners, self.probes)

    def found(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(finding.id, finding.hosts) for finding in self.findings()]

    def finding(self) -> Finding:
        (finding,) = self.findings()
        assert finding.expected
        assert finding.remedy
        return finding


def to(node: int, size: int) -> Pairs:
    return [(source, node) for source in range(size) if source != node]


def of(node: int, size: int) -> Pairs:
    return [(node, target) for target in range(size) if target != node]


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_a_clean_mesh_has_no_findings(size: int) -> None:
    assert Fleet(size).findings() == []


def test_nothing_that_answered_gives_no_findings_of_the_mesh() -> None:
    fleet = Fleet(3)
    assert rules_mesh.examine(fleet.plan, {}, {}, {}) == []


def test_examining_changes_nothing() -> None:
    fleet = Fleet(3)
    fleet.fail("timed out", (0, 1))
    before = copy.deepcopy(fleet.__dict__)
    fleet.findings()
    assert fleet.__dict__ == before


# What every node gets


def test_targets_are_those_that_listen_by_rank() -> None:
    fleet = Fleet(3, address="10.0.0.1")
    fleet.listeners["node0"]["names"] = {"head": ["10.0.0.1"]}
    fleet.listeners["node1"]["listening"] = []
    assert rules_mesh.targets(fleet.plan, fleet.listeners) == {
        "targets": [
            [0, "10.0.0.1", fleet.listeners["node0"]["word"], 40000, 29500, 29501],
            [2, "10.0.0.1", fleet.listeners["node2"]["word"], 40002],
        ],
        "names": {"head": ["10.0.0.1"]},
    }
    assert rules_mesh.targets(fleet.plan, {}) == {"targets": [], "names": {}}


# Reachability


def test_a_node_that_nobody_reaches_is_one_finding() -> None:
    fleet = Fleet(5)
    fleet.fail("timed out", *to(3, 5))
    finding = fleet.finding()
    assert (finding.id, finding.hosts) == ("node_unreachable_by_peers", ("node3",))
    assert finding.found.startswith("timed out")
    assert "firewall" in finding.remedy


def test_nodes_with_the_same_fault_stand_together() -> None:
    fleet = Fleet(6)
    fleet.fail("timed out", *to(3, 6), *to(4, 6))
    fleet.fail("connection refused", *to(1, 6))
    assert sorted(fleet.found()) == [
        ("node_unreachable_by_peers", ("node1",)),
        ("node_unreachable_by_peers", ("node3", "node4")),
    ]


def test_a_node_that_reaches_nobody_has_its_own_side_to_see_to() -> None:
    fleet = Fleet(4)
    fleet.fail("no route to host", *of(2, 4))
    fleet.probes["node2"]["ports"] = dict.fromkeys(fleet.probes["node2"]["ports"], "no route to host")
    finding = fleet.finding()
    assert (finding.id, finding.hosts) == ("node_reaches_nobody", ("node2",))
    assert "own side" in finding.remedy


def test_a_node_that_is_cut_off_both_ways() -> None:
    fleet = Fleet(4)
    fleet.fail("timed out", *to(2, 4), *of(2, 4))
    assert fleet.found() == [("node_unreachable_by_peers", ("node2",)), ("node_reaches_nobody", ("node2",))]


def test_one_pair_is_named_as_a_pair() -> None:
    fleet = Fleet(4)
    fleet.fail("timed out", (1, 3))
    finding = fleet.finding()
    assert (finding.id, finding.hosts) == ("pair_unreachable", ("node1", "node3"))
    assert finding.found == "timed out: node1 -> node3"


def test_both_directions_of_two_nodes() -> None:
    fleet = Fleet(2)
    fleet.fail("timed out", (0, 1), (1, 0))
    finding = fleet.finding()
    assert finding.found == "timed out: node0 -> node1; node1 -> node0"


def test_a_split_is_told_in_few_words() -> None:
    fleet = Fleet(6)
    halves = ({0, 1, 2}, {3, 4, 5})
    fleet.fail("timed out", *((a, b) for a, b in permutations(range(6), 2) if (a in halves[0]) != (b in halves[0])))
    finding = fleet.finding()
    assert finding.id == "pair_unreachable"
    assert finding.found == (
        "timed out: node0, node1, node2 -> node3, node4, node5; node3, node4, node5 -> node0, node1, node2"
    )


def test_many_pairs_are_counted_rather_than_listed() -> None:
    fleet = Fleet(30)
    fleet.fail("timed out", *((node, node + 1) for node in range(0, 28, 2)))
    assert fleet.finding().found.endswith("; and 9 more")


def test_a_firewall_that_is_closed_everywhere_is_one_finding() -> None:
    fleet = Fleet(5)
    fleet.fail("timed out", *permutations(range(5), 2))
    finding = fleet.finding()
    assert (finding.id, finding.hosts) == ("node_unreachable_by_peers", tuple(fleet.plan["nodes"]))


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("timed out", "firewall"),
        ("no route to host", "firewall"),
        ("connection refused", "axolotl_address"),
        ("connection reset by peer", "axolotl_address"),
        (protocol.STRANGER, "something else answers"),
        (protocol.SILENT, "firewall"),
        (protocol.STALLED, "packet loss"),
        (protocol.UNFINISHED, "first"),
    ],
)
def test_the_remedy_follows_from_what_happened(said: str, remedy: str) -> None:
    fleet = Fleet(4)
    fleet.fail(said, (1, 2))
    finding = fleet.finding()
    assert finding.found.startswith(said)
    assert remedy in finding.remedy


# The head's ports


def test_nodes_that_do_not_reach_a_port_of_the_head_are_named() -> None:
    fleet = Fleet(4)
    for node in ("node1", "node3"):
        fleet.probes[node]["ports"]["29500"] = "timed out"
    finding = fleet.finding()
    assert (finding.id, finding.hosts, finding.found) == ("head_unreachable", ("node1", "node3"), "timed out")
    assert "port 29500" in finding.expected
    assert "29501" not in finding.expected


@pytest.mark.parametrize("size", [2, 4])
def test_a_head_that_is_not_reached_at_all_is_one_finding(size: int) -> None:
    fleet = Fleet(size)
    fleet.fail("timed out", *to(0, size))
    for node in list(fleet.probes)[1:]:
        fleet.probes[node]["ports"] = {"29500": "timed out", "29501": "timed out"}
    finding = fleet.finding()
    assert (finding.id, finding.hosts) == ("head_unreachable", tuple(fleet.plan["nodes"])[1:])
    assert "port 29500 and 29501" in finding.expected


def test_a_head_with_its_pinned_ports_open_alone() -> None:
    fleet = Fleet(4)
    fleet.fail("timed out", *to(0, 4))
    assert fleet.found() == [("node_unreachable_by_peers", ("node0",))]


def test_a_head_that_does_not_reach_itself_by_its_address() -> None:
    fleet = Fleet(3)
    fleet.probes["node0"]["ports"]["29500"] = "timed out"  # an address of NAT that does not lead back
    assert fleet.found() == [("head_unreachable", ("node0",))]


def test_a_taken_port_is_not_dialled_and_no_matter_of_reachability() -> None:
    fleet = Fleet(2)
    fleet.listeners["node0"]["refused"] = {
        "29500": {"error": "in use", "holder": {"pid": 5, "command": "x"}, "run": ""}
    }
    assert fleet.findings() == []


@pytest.mark.parametrize(("node", "rule"), [("node0", "head_address"), ("node1", "node_address")])
def test_an_address_that_a_node_can_not_listen_on(node: str, rule: str) -> None:
    fleet = Fleet(2)
    fleet.listeners[node].update(listening=[], refused={"0": {"error": "Permission denied", "holder": None, "run": ""}})
    finding = fleet.finding()
    assert (finding.id, finding.hosts, finding.found) == (rule, (node,), "Permission denied")
    assert "axolotl_address" in finding.remedy


def test_a_run_that_started_after_the_fingerprint_leaves_its_ports_untried() -> None:
    fleet = Fleet(2)
    refused = {"error": "run new is active", "holder": None, "run": "new"}
    fleet.listeners["node0"]["refused"] = {"29500": refused, "29501": refused}
    finding = fleet.finding()
    assert (finding.id, finding.hosts) == ("run_active", ("node0",))
    fleet.fingerprints["node0"]["active_runs"] = {"new": ""}  # then it is a finding already
    assert fleet.findings() == []


# MTU


@pytest.mark.parametrize("said", [protocol.VANISH_THERE, protocol.VANISH_BACK])
def test_large_packets_that_vanish_between_two_nodes(said: str) -> None:
    fleet = Fleet(4)
    fleet.fail(said, (1, 2))
    finding = fleet.finding()
    assert (finding.id, finding.hosts) == ("mtu_blackhole", ("node1", "node2"))
    assert finding.found == "large packets vanish: node1 <-> node2; MTU of the interface: 9000 on node1, node2"
    assert "ICMP" in finding.remedy


def test_both_ends_see_one_black_hole() -> None:
    fleet = Fleet(4)
    fleet.fail(protocol.VANISH_THERE, (1, 2))
    fleet.fail(protocol.VANISH_BACK, (2, 1))
    assert fleet.found() == [("mtu_blackhole", ("node1", "node2"))]


def test_a_node_behind_a_black_hole_is_named_alone() -> None:
    fleet = Fleet(5)
    fleet.fail(protocol.VANISH_THERE, *to(3, 5))
    fleet.fail(protocol.VANISH_BACK, *of(3, 5))
    assert fleet.found() == [("mtu_blackhole", ("node3",))]


def test_jumbo_frames_everywhere_and_no_switch_for_them() -> None:
    fleet = Fleet(4)
    fleet.fail(protocol.VANISH_THERE, *permutations(range(4), 2))
    assert fleet.found() == [("mtu_blackhole", tuple(fleet.plan["nodes"]))]


def plant_mtu(fleet: Fleet, group: str, mtu: int, *pairs: tuple[int, int]) -> None:
    for source, target in pairs:
        values = fleet.probes[f"node{source}"][group]
        for value in list(values):
            left = set(number_ranges.unpack(values[value])) - {target}
            values[value] = number_ranges.pack(left)
            if not left:
                del values[value]
        values[str(mtu)] = number_ranges.pack({*number_ranges.unpack(values.get(str(mtu), "")), target})


def test_an_interface_with_another_mtu_is_a_finding_elsewhere() -> None:
    fleet = Fleet(4)
    plant_mtu(fleet, "interfaces", 1500, *of(2, 4))
    plant_mtu(fleet, "paths", 1500, *of(2, 4), *to(2, 4))
    assert fleet.findings() == []


def test_a_path_that_is_narrower_than_both_interfaces() -> None:
    fleet = Fleet(4)
    plant_mtu(fleet, "paths", 1500, (1, 3), (3, 1))
    finding = fleet.finding()
    assert (finding.id, finding.hosts, finding.severity) == ("path_mtu", ("node1", "node3"), "warning")
    assert finding.found == "MTU 1500: node1 <-> node3"


def test_a_node_behind_a_narrow_path() -> None:
    fleet = Fleet(5)
    plant_mtu(fleet, "paths", 1400, *of(4, 5), *to(4, 5))
    finding = fleet.finding()
    assert (finding.id, finding.hosts, finding.found) == ("path_mtu", ("node4",), "MTU 1400 to every other machine")


def test_nodes_that_share_a_machine_meet_on_loopback_with_an_mtu_of_its_own() -> None:
    fleet = Fleet(3)
    for node in ("node0", "node1"):
        fleet.plan["nodes"][node]["machine"] = "shared"
    for group in ("interfaces", "paths"):
        plant_mtu(fleet, group, 65535, (0, 1), (1, 0))
    assert fleet.findings() == []


def test_the_two_directions_of_a_narrow_path_are_one_finding() -> None:
    fleet = Fleet(5)
    plant_mtu(fleet, "paths", 1500, *of(4, 5))
    plant_mtu(fleet, "paths", 1076, *to(4, 5))  # what a kernel went on with that probes
    finding = fleet.finding()
    assert (finding.hosts, finding.found) == (("node4",), "MTU 1076, 1500 to every other machine")


def test_a_black_hole_explains_that_the_way_back_is_narrow() -> None:
    fleet = Fleet(4)
    fleet.fail(protocol.VANISH_BACK, (1, 2))
    plant_mtu(fleet, "paths", 1500, (2, 1))
    assert fleet.found() == [("mtu_blackhole", ("node1", "node2"))]


def test_a_path_of_which_nothing_is_known_is_no_finding() -> None:
    fleet = Fleet(3)
    for probe in fleet.probes.values():
        probe.update(paths={}, interfaces={})
    assert fleet.findings() == []


# Clocks


def plant_clock(fleet: Fleet, seconds: dict[int, float], error: float = 0.001) -> None:
    """Set the clocks, and have every node read the others' as they are then."""
    for position, node in enumerate(fleet.plan["nodes"]):
        fleet.probes[node]["clocks"] = [
            [other, seconds.get(other, 0.0) - seconds.get(position, 0.0), error]
            for other, _offset, _error in fleet.probes[node]["clocks"]
        ]


@pytest.mark.parametrize("seconds", [1.5, -1.5, 3600.0])
@pytest.mark.parametrize("size", [3, 4, 20])
def test_a_clock_that_is_off_is_named_with_its_offset(size: int, seconds: float) -> None:
    fleet = Fleet(size)
    plant_clock(fleet, {2: seconds})
    finding = fleet.finding()
    assert (finding.id, finding.hosts, finding.found) == ("clock_offset", ("node2",), f"node2 {seconds:+.1f} s")
    assert "chrony" in finding.remedy


def test_the_heads_clock_can_be_the_one_that_is_off() -> None:
    fleet = Fleet(5)
    plant_clock(fleet, {0: 30.0})
    assert fleet.finding().found == "node0 +30.0 s"


def test_of_two_nodes_the_heads_clock_is_taken_to_be_right() -> None:
    fleet = Fleet(2)
    plant_clock(fleet, {0: 5.0})
    assert fleet.finding().found == "node1 -5.0 s"


@pytest.mark.parametrize(("seconds", "error"), [(0.9, 0.0), (-0.9, 0.0), (1.4, 0.5)])
def test_less_than_a_second_or_than_what_can_be_told_is_no_finding(seconds: float, error: float) -> None:
    fleet = Fleet(4)
    plant_clock(fleet, {2: seconds}, error)
    assert fleet.findings() == []


def test_a_node_that_does_not_reach_the_head_is_compared_by_way_of_another() -> None:
    fleet = Fleet(12)
    plant_clock(fleet, {11: 7.0})
    for node, probe in fleet.probes.items():
        keep = (lambda position: position == 5) if node == "node11" else (lambda position: position != 11)
        probe["clocks"] = [row for row in probe["clocks"] if keep(row[0])]
    assert mesh_clocks.offsets(fleet.plan, fleet.probes)["node11"] == (7.0, pytest.approx(0.002))
    assert fleet.found() == [("clock_offset", ("node11",))]


def test_without_a_clock_there_is_nothing_to_say() -> None:
    fleet = Fleet(3)
    for probe in fleet.probes.values():
        probe["clocks"] = []
    assert fleet.findings() == []


# Names


def with_names(size: int, names: dict[str, list[str]], head: str = "head", **changes: Any) -> Fleet:
    """A fleet whose head is reached by a name, with what the names mean on the head."""
    fleet = Fleet(size, **changes)
    fleet.plan["head_address"] = fleet.plan["nodes"]["node0"]["address"] = head
    fleet.listeners["node0"]["names"] = names
    return fleet


def differ(fleet: Fleet, node: str, names: dict[str, list[str]], count: int | None = None) -> None:
    fleet.probes[node]["names"].update(different=names, count=len(names) if count is None else count)


def test_names_that_mean_the_same_everywhere() -> None:
    assert with_names(4, {"head": ["10.0.0.1"], "peer": ["10.0.0.2"]}).findings() == []


def test_the_heads_name_leads_one_node_elsewhere() -> None:
    fleet = with_names(4, {"head": ["10.0.0.1"]})
    differ(fleet, "node2", {"head": ["10.9.9.9"]})
    finding = fleet.finding()
    assert (finding.id, finding.hosts, finding.severity) == ("name_resolution", ("node2",), "error")
    assert finding.found == "head is 10.9.9.9 instead of 10.0.0.1"
    assert "/etc/hosts" in finding.remedy


def test_the_head_can_be_the_one_with_another_opinion() -> None:
    fleet = with_names(4, {"peer": ["10.9.9.9"]})
    for node in ("node1", "node2", "node3"):
        differ(fleet, node, {"peer": ["10.0.0.2"]})
    finding = fleet.finding()
    assert (finding.hosts, finding.found) == (("node0",), "peer is 10.9.9.9 instead of 10.0.0.2")


@pytest.mark.parametrize(
    ("name", "addresses"),
    [("head", ["10.0.0.1", "fd00::1"]), ("peer", ["10.9.9.9"])],
    ids=["one in common", "a peer's"],
)
def test_what_the_run_can_live_with_is_a_warning(name: str, addresses: list[str]) -> None:
    fleet = with_names(4, {"head": ["10.0.0.1"], "peer": ["10.0.0.2"]})
    differ(fleet, "node3", {name: addresses})
    assert fleet.finding().severity == "warning"


def test_a_host_whose_own_name_means_loopback_to_itself_is_usual() -> None:
    fleet = with_names(4, {"head": ["127.0.1.1"]})
    for node in ("node1", "node2", "node3"):
        differ(fleet, node, {"head": ["10.0.0.1"]})
    assert fleet.findings() == []
    differ(fleet, "node3", {"head": ["127.0.1.1"]})  # but to another host it is not
    assert fleet.found() == [("name_resolution", ("node3",))]


def test_a_name_that_does_not_resolve_is_one_finding() -> None:
    fleet = with_names(3, {"head": ["10.0.0.1"]})
    differ(fleet, "node2", {"head": []})
    fleet.fail(protocol.UNRESOLVED, (2, 0))
    fleet.probes["node2"]["ports"] = dict.fromkeys(fleet.probes["node2"]["ports"], protocol.UNRESOLVED)
    finding = fleet.finding()
    assert (finding.id, finding.hosts, finding.expected) == ("name_resolution", ("node2",), "head resolves")


def test_a_name_that_resolves_nowhere_is_one_finding_though_its_node_can_not_listen() -> None:
    fleet = with_names(3, {"head": []})
    error = {"error": "Name or service not known", "holder": None, "run": ""}
    fleet.listeners["node0"].update(listening=[], refused={"0": error, "29500": error})
    finding = fleet.finding()
    assert (finding.id, finding.hosts) == ("name_resolution", ("node0", "node1", "node2"))


def test_a_name_that_does_not_resolve_while_the_head_says_nothing() -> None:
    fleet = with_names(3, {})
    fleet.plan["nodes"]["node1"]["address"] = "peer"
    del fleet.listeners["node0"]
    fleet.fail(protocol.UNRESOLVED, (2, 1))
    assert fleet.found() == [("name_resolution", ("node2",))]


def test_many_names_that_do_not_resolve_on_a_node_are_one_finding() -> None:
    fleet = with_names(3, {f"peer{number}": ["10.0.0.1"] for number in range(40)})
    differ(fleet, "node2", {f"peer{number}": [] for number in range(16)}, count=40)
    finding = fleet.finding()
    assert finding.hosts == ("node2",)
    assert finding.expected == "peer0, peer1, peer2, peer3, peer4 and 11 more resolves"


def test_everything_is_found_at_once() -> None:
    fleet = with_names(8, {"head": ["10.0.0.1"]})
    differ(fleet, "node1", {"head": ["10.9.9.9"]})
    plant_clock(fleet, {2: 60.0})
    fleet.fail("timed out", *to(3, 8), (4, 5))
    fleet.fail(protocol.VANISH_THERE, (6, 7))
    plant_mtu(fleet, "paths", 1500, (1, 2), (2, 1))
    rules = [
        "name_resolution",
        "node_unreachable_by_peers",
        "pair_unreachable",
        "mtu_blackhole",
        "path_mtu",
        "clock_offset",
    ]
    assert [rule for rule, _hosts in fleet.found()] == rules


# Scale


def test_a_thousand_nodes_that_all_fail_are_one_finding() -> None:
    fleet = Fleet(1000)
    for position, probe in enumerate(fleet.probes.values()):
        others = number_ranges.pack(set(range(1000)) - {position})
        probe.update(failed={"timed out": others}, paths={}, interfaces={}, clocks=[])
    assert fleet.found() == [("node_unreachable_by_peers", tuple(fleet.plan["nodes"]))]


def test_a_thousand_nodes_that_fail_without_a_pattern_are_told_in_few_words() -> None:
    fleet = Fleet(1000)
    for position, probe in enumerate(fleet.probes.values()):
        others = number_ranges.pack(other for other in range(1000) if other != position and (other * position) % 7 == 3)
        probe.update(failed={"timed out": others} if others else {}, paths={}, interfaces={}, clocks=[])
    finding = fleet.finding()
    assert finding.id == "pair_unreachable"
    assert len(finding.found) < 1_000
