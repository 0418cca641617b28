# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a node sends, preflight has a judgement: of the node where that is a fingerprint, else of its shape."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.fleets import CONFIG as CONFIG_SHA256
from unit.fleets import FILES, PREPARED, plan_of
from unit.fleets import fingerprints as made_up

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import fingerprint_shape, nccl_settings, preflight
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.fingerprint_shape import FINGERPRINT
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.preflight import Judged

CONFIG = {"base_model": "/srv/model", "datasets": [{"path": "org/set"}], "dataset_prepared_path": "prepared"}
PLAN = plan_of(3, FILES._replace(config=CONFIG), training_files_preprocess="each")
Path = tuple[Any, ...]


def healthy() -> dict[str, Any]:
    """Nodes whose dataset provision has prepared."""
    prints = made_up(PLAN)
    for found in prints.values():
        found["prepared"]["record"] = {"inputs": {}, "config": CONFIG_SHA256}
        found["prepared"]["folders"][PREPARED]["record"] = found["prepared"]["folders"][PREPARED]["digest"]
    return prints


def judged(prints: dict[str, Any]) -> Judged:
    skipped = {node: {"skipped": True} for node in PLAN["nodes"]}
    results = {node: {"fingerprint": found} for node, found in prints.items()}
    return preflight.judge(PLAN, {"fingerprint": results, "listener": skipped, "probe": skipped}, "a: 1\n", None)


def put(prints: dict[str, Any], path: Path, value: Any) -> None:
    place: Any = prints["node1"]
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value


def places(value: Any, above: Path = ()) -> list[Path]:
    """The way to every value, those before it that lead there included."""
    found = [above] if above else []
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found += places(value[key], (*above, key))
    return found


# Of eight GPUs that are alike the first will do.
PLACES = [path for path in places(healthy()["node1"]) if path[:2] != ("gpus", "devices") or path[2:3] < (1,)]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def test_a_healthy_fleet_has_it() -> None:
    assert judged(healthy()).findings == []


@settings(max_examples=400, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(PLACES), JSON, min_size=1, max_size=4))
def test_whatever_a_node_says_there_is_a_judgement(changes: dict[Path, Any]) -> None:
    prints = healthy()
    # The longest ways first, so that none leads through what another has replaced.
    for path, value in sorted(changes.items(), key=lambda change: -len(change[0])):
        put(prints, path, value)
    before = copy.deepcopy(prints)
    result = judged(prints)
    nccl_settings.completed(PLAN, result.evidence["fingerprints"])
    assert all(all((found.id, found.expected, found.found, found.remedy)) for found in result.findings)
    assert ("node1" in result.evidence["fingerprints"]) == (FINGERPRINT(prints["node1"]) is None)
    assert repr(prints) == repr(before)


@settings(max_examples=200, deadline=None)
@given(path=st.sampled_from(PLACES), text=st.text(max_size=40), number=st.integers(0, 1 << 62))
def test_whatever_fits_is_judged(path: Path, text: str, number: int) -> None:
    """Another text for a text, another number for a number: of the right shape, and without sense."""
    prints = healthy()
    old: Any = prints["node1"]
    for name in path:
        old = old[name]
    put(prints, path, text if isinstance(old, str) else number if isinstance(old, int) else old)
    judged(prints)


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (("gpus", "devices"), {}, "gpus.devices"),
        (("gpus", "devices", 7, "pcie", "width"), "16", "gpus.devices[7].pcie.width"),
        (("infiniband", "hcas", "mlx5_1", "ports", "1", "gbits"), True, "infiniband.hcas.mlx5_1.ports.1.gbits"),
        (("infiniband", "hcas", "mlx5_1", "ports", "one"), {}, "infiniband.hcas.mlx5_1.ports.one"),
        (("network", "address", "resolved"), ["10.0.0.300"], "network.address.resolved[0]"),
        (("network", "interfaces", "ib0", "addresses"), ["10.0.0.1"], "network.interfaces.ib0.addresses[0]"),
        (("machine",), None, "machine"),
        (("limits", "context"), "elsewhere", "limits.context"),
        (("room", "shm"), {"size_bytes": -1, "free_bytes": 0}, "room.shm.size_bytes"),
        (("room", "shm"), {"size_bytes": 1 << 63, "free_bytes": 0}, "room.shm.size_bytes"),
        (("prepared", "record"), {"inputs": {}}, "prepared.record.config"),
    ],
)
def test_where_a_fingerprint_is_none_is_said(path: Path, value: Any, where: str) -> None:
    prints = healthy()
    put(prints, path, value)
    (finding,) = judged(prints).findings
    assert (finding.id, finding.hosts, finding.severity) == ("fingerprint_invalid", ("node1",), "error")
    assert where in finding.found


def test_a_section_that_is_missing_is_named_once_for_all_nodes_that_lack_it() -> None:
    prints = healthy()
    for node in ("node0", "node2"):
        del prints[node]["limits"]
    found = fingerprint_shape.fingerprints({node: {"fingerprint": value} for node, value in prints.items()})
    assert list(found.values) == ["node1"]
    (finding,) = found.findings
    assert (finding.hosts, finding.found) == (("node0", "node2"), "it is not so at limits")


def test_what_is_no_mapping_at_all_is_said() -> None:
    (finding,) = judged({**healthy(), "node1": "hello"}).findings
    assert finding.found == "it is not so at all"
