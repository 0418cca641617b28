# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of NCCL that do harm or nothing, planted alone on all nodes, are named with their source."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.fleets import fingerprints, infiniband_port, plan_of

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import nccl_variables, rules_nccl, rules_preflight
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import Finding


def found(name: str, value: str, *adapters: str) -> list[Finding]:
    plan = plan_of(3)
    prints = fingerprints(plan)
    for fingerprint in prints.values():
        fingerprint["nccl"]["settings"][name] = {"value": value, "source": "/etc/nccl.conf"}
        for adapter in adapters:
            hca = {"firmware": "28.41.1000", "kind": "MT4129", "ports": {"1": infiniband_port()}}
            fingerprint["infiniband"]["hcas"][adapter] = hca
    return rules_preflight.examine(plan, prints)


@pytest.mark.parametrize(
    ("name", "value", "rule", "said"),
    [
        ("NCCL_BUFFSIZE", "2097152", "nccl_harmful", "NCCL_BUFFSIZE=2097152 (/etc/nccl.conf)"),
        ("NCCL_P2P_DISABLE", "1", "nccl_harmful", "NCCL_P2P_DISABLE=1"),
        ("NCCL_SHM_DISABLE", " 1", "nccl_harmful", "NCCL_SHM_DISABLE= 1"),
        ("NCCL_NET_GDR_LEVEL", "LOC", "nccl_harmful", "NCCL_NET_GDR_LEVEL=LOC"),
        ("NCCL_DEBUG", "trace", "nccl_harmful", "NCCL_DEBUG=trace"),
        ("NCCL_ASYNC_ERROR_HANDLING", "1", "nccl_unread", "NCCL_ASYNC_ERROR_HANDLING (/etc/nccl.conf) was renamed"),
        ("NCCL_MAX_NRINGS", "4", "nccl_unread", "NCCL_MAX_NRINGS"),
        ("NCCL_SOCKET_IFNAMES", "ib0", "nccl_unread", "did you mean NCCL_SOCKET_IFNAME?"),
        ("NCCL_IB_HCAS", "mlx5_0", "nccl_unread", "did you mean NCCL_IB_HCA?"),
    ],
)
def test_what_does_harm_or_nothing_is_named(name: str, value: str, rule: str, said: str) -> None:
    (finding,) = found(name, value)
    assert (finding.id, finding.severity, finding.hosts) == (rule, "warning", ("node0", "node1", "node2"))
    assert said in finding.found
    assert finding.expected
    assert finding.remedy


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NCCL_BUFFSIZE", "4194304"),
        ("NCCL_BUFFSIZE", "8388608"),
        ("NCCL_BUFFSIZE", "4M"),
        ("NCCL_P2P_DISABLE", "0"),
        ("NCCL_NET_GDR_LEVEL", "PHB"),
        ("NCCL_DEBUG", "INFO"),
        ("NCCL_DEBUG", "WARN"),
        ("NCCL_IB_TIMEOUT", "22"),
        ("NCCL_OF_OUR_OWN", "x"),
    ],
)
def test_what_does_none_is_not(name: str, value: str) -> None:
    assert found(name, value) == []


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("mlx5_1", "takes mlx5_10, mlx5_11 too"),
        ("mlx5_1,mlx5_10", "takes mlx5_11 too"),
        ("=mlx5_1", ""),
        ("^mlx5_1", ""),
        ("mlx5_10", ""),
        ("mlx5", ""),  # a prefix that is meant: no adapter is called so
    ],
)
def test_an_adapter_that_is_the_beginning_of_anothers_name(value: str, said: str) -> None:
    findings = [
        finding for finding in found("NCCL_IB_HCA", value, "mlx5_10", "mlx5_11") if finding.id == "nccl_hca_prefix"
    ]
    assert [finding.found.partition(") ")[2] for finding in findings] == ([said] if said else [])


def test_settings_that_could_not_be_read_say_nothing() -> None:
    plan = plan_of(2)
    prints = fingerprints(plan)
    prints["node1"]["nccl"]["settings"] = None
    assert rules_preflight.examine(plan, prints) == []


def test_no_name_of_before_is_a_known_one() -> None:
    """Else its successor would never be named."""
    assert not set(rules_nccl.RENAMED) & nccl_variables.KNOWN
    assert {name for name in rules_nccl.RENAMED.values() if name.startswith("NCCL_")} <= nccl_variables.KNOWN
    assert {harm.name for harm in rules_nccl.HARMS} <= nccl_variables.KNOWN


@given(st.text(max_size=30), st.text(max_size=30))
def test_whatever_is_set_nothing_is_raised(name: str, value: str) -> None:
    found(f"NCCL_{name}", value)
    found("NCCL_IB_HCA", value)
    found("NCCL_BUFFSIZE", value)
