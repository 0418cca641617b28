# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of NCCL that make a run slow, blind or other than was meant: a table of rules.

What counts is what NCCL will have set on a node, from the environment or from its files (core/nccl_config.py). The
meanings and defaults are those of NCCL's guide, "Environment Variables", for 2.30; whether a setting is the same on all
nodes is the row nccl_settings' business (rules_parity.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from . import nccl_variables
from .comparison import by_value
from .data_network import Fingerprints, Plan
from .findings import WARNING, Finding
from .nccl_names import NameList

Setting = Mapping[str, str]
"""`value`, and `source`, where it comes from."""
Settings = Mapping[str, list[tuple[str, Setting]]]
"""Variable to what each node that has it makes of it."""
Rule = Callable[[Settings, Fingerprints], Iterator[Finding]]

BUFFSIZE = 4 << 20
"""Bytes, NCCL's default for NCCL_BUFFSIZE."""
RENAMED: Mapping[str, str] = {
    "NCCL_ASYNC_ERROR_HANDLING": "TORCH_NCCL_ASYNC_ERROR_HANDLING",
    "NCCL_BLOCKING_WAIT": "TORCH_NCCL_BLOCKING_WAIT",
    "NCCL_DESYNC_DEBUG": "TORCH_NCCL_DESYNC_DEBUG",
    "NCCL_ENABLE_TIMING": "TORCH_NCCL_ENABLE_TIMING",
    "NCCL_IB_CUDA_SUPPORT": "NCCL_NET_GDR_LEVEL",
    "NCCL_IB_GDR_LEVEL": "NCCL_NET_GDR_LEVEL",
    "NCCL_LL_THRESHOLD": "NCCL_PROTO",
    "NCCL_MAX_NRINGS": "NCCL_MAX_NCHANNELS",
    "NCCL_MIN_NRINGS": "NCCL_MIN_NCHANNELS",
    "NCCL_SINGLE_RING_THRESHOLD": "NCCL_ALGO",
    "NCCL_TREE_THRESHOLD": "NCCL_ALGO",
    "NCCL_CHECKS_DISABLE": "NCCL_CHECK_POINTERS",
}
"""Names of before, to what took their place: in torch 2.2 (ProcessGroupNCCL.hpp), or in NCCL (its guide says since
which version)."""


class Harm(NamedTuple):
    """A value that does harm.

    Attributes:
        name: the variable.
        harms: whether a value does.
        expected: what should be, for people.
        remedy: what to do.
    """

    name: str
    harms: Callable[[str], bool]
    expected: str
    remedy: str


def _is_on(value: str) -> bool:
    """NCCL takes any number but 0 for on."""
    return bool(re.fullmatch(r"\s*[+-]?0*[1-9]\d*\s*", value))


def _is_small(value: str) -> bool:
    return bool(re.fullmatch(r"\d{1,18}", value)) and int(value) < BUFFSIZE


TAKE_OUT = "take it out of axolotl_environment, or out of the file that is named, unless it was measured to help"
HARMS: tuple[Harm, ...] = (
    Harm("NCCL_BUFFSIZE", _is_small, "buffers of at least 4 MiB, as NCCL has them by itself", TAKE_OUT),
    Harm("NCCL_P2P_DISABLE", _is_on, "GPUs of a node that reach each other directly (NVLink, PCIe)", TAKE_OUT),
    Harm("NCCL_SHM_DISABLE", _is_on, "shared memory between the GPUs of a node that have no direct way", TAKE_OUT),
    Harm(
        "NCCL_NET_GDR_LEVEL",
        lambda value: value.strip().upper() in ("0", "LOC"),
        "adapters that may reach the memory of GPUs (GPUDirect)",
        TAKE_OUT,
    ),
    Harm(
        "NCCL_DEBUG",
        lambda value: value.strip().upper() == "TRACE",
        "a log that training does not wait for",
        "set NCCL_DEBUG to INFO or WARN: TRACE is for finding faults in NCCL itself",
    ),
)


def examine(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    """Hold every rule against the fleet."""
    settings: dict[str, list[tuple[str, Setting]]] = {}
    for node, fingerprint in fingerprints.items():
        for name, setting in (fingerprint["nccl"]["settings"] or {}).items():
            settings.setdefault(name, []).append((node, setting))
    for rule in RULES:
        yield from rule(settings, fingerprints)


def _harmful(settings: Settings, fingerprints: Fingerprints) -> Iterator[Finding]:
    for harm in HARMS:
        found = [
            (node, f"{harm.name}={setting['value']} ({setting['source']})")
            for node, setting in settings.get(harm.name, [])
            if harm.harms(setting["value"])
        ]
        for said, nodes in by_value(found).items():
            yield Finding("nccl_harmful", nodes, harm.expected, said, harm.remedy, WARNING)


def _renamed(settings: Settings, fingerprints: Fingerprints) -> Iterator[Finding]:
    for name, successor in RENAMED.items():
        remedy = f"set {successor} instead, or take it out"
        for source, nodes in _sources(settings.get(name, [])):
            said = f"{name} ({source}) was renamed"
            yield Finding("nccl_unread", nodes, "variables that are read", said, remedy, WARNING)


def _unknown(settings: Settings, fingerprints: Fingerprints) -> Iterator[Finding]:
    remedy = "correct the name: NCCL passes over what it does not know without a word"
    for name, found in settings.items():
        near = nccl_variables.meant(name) if name not in RENAMED else ""
        for source, nodes in _sources(found) if near else ():
            said = f"{name} ({source}), which NCCL does not know (did you mean {near}?)"
            yield Finding("nccl_unread", nodes, "variables that are read", said, remedy, WARNING)


def _adapter_prefix(settings: Settings, fingerprints: Fingerprints) -> Iterator[Finding]:
    """Without = each name is a prefix: mlx5_1 is mlx5_10 to mlx5_19 too."""
    found = []
    for node, setting in settings.get("NCCL_IB_HCA", []):
        value = setting["value"]
        listed = NameList.parse(value)
        names = set() if value.startswith(("^", "=")) else {name for name, _port in listed.entries}
        adapters = fingerprints[node]["infiniband"]["hcas"]
        more = [
            hca for hca in adapters if hca not in names and any(hca.startswith(name) for name in names & set(adapters))
        ]
        if more:
            taken = ", ".join(sorted(more)[:4])
            found.append((node, f"NCCL_IB_HCA={value} ({setting['source']}) takes {taken} too"))
    for said, nodes in by_value(found).items():
        remedy = "put = before the first name; or leave NCCL_IB_HCA unset: it is derived on each node"
        yield Finding("nccl_hca_prefix", nodes, "exactly the adapters that are named", said, remedy, WARNING)


def _sources(found: list[tuple[str, Setting]]) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Where a variable comes from, with the nodes on which it comes from there."""
    return by_value((node, setting["source"]) for node, setting in found).items()


RULES: tuple[Rule, ...] = (_harmful, _renamed, _unknown, _adapter_prefix)
