# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges what preflight read: the nodes against the plan, against each other, and against what was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from . import (
    config_difference,
    exceptions,
    fingerprint_shape,
    parity_record,
    readings,
    rules_data,
    rules_mesh,
    rules_preflight,
    rules_storage,
)
from .findings import Finding, errors
from .rule_table import Agreed

Results = Mapping[str, Mapping[str, Any]]


class Judged(NamedTuple):
    """What preflight found.

    Attributes:
        findings: all of them, with the severities that the owner gave them.
        evidence: the fingerprints by node, what the nodes agree on, and the mesh.
        record: text for the golden record, where there is none yet and the fleet is fit; else empty.
        diff: for people, how texts on the nodes differ from what they should be.
    """

    findings: list[Finding]
    evidence: dict[str, Any]
    record: str
    diff: str


def judge(plan: Mapping[str, Any], results: Mapping[str, Results], config: str, record: str | None) -> Judged:
    """Judge a fleet.

    Args:
        plan: the launch plan.
        results: by step (marker, fingerprint, controller_inputs, differences, listener, probe) what it returned on
            each node.
        config: text of the controller's config, its secrets masked; empty where it can't be read any more.
        record: text of the golden record, None where there is none.
    """
    policy = plan["parity"]
    fingerprints = fingerprint_shape.fingerprints(results["fingerprint"])
    findings = [*fingerprints.findings, *rules_storage.marked(plan, results.get("marker", {}))]
    recorded, damaged = _recorded(record, policy["record"])
    once = (readings.once(results, name) for name in ("controller_inputs", "differences"))
    informed = rules_data.informed(plan, *once)
    parity, agreed = rules_preflight.compare(informed, fingerprints.values, config, recorded)
    findings += [*damaged, *parity, *parity_record.drift(plan, policy["record"], recorded, agreed)]
    listening = readings.read(_not_skipped(results["listener"]), "listening", "listening")
    probes = readings.read(_not_skipped(results["probe"]), "mesh", "dialling the others")
    listeners = {node: results["listener"][node] for node in listening.values}
    findings += [*listening.findings, *probes.findings]
    findings += rules_mesh.examine(plan, fingerprints.values, listeners, probes.values)
    findings = exceptions.applied(findings, policy["exceptions"])
    fit = policy["record"] and record is None and not errors(findings)
    return Judged(
        findings,
        {"fingerprints": _without_texts(fingerprints.values), "agreed": agreed, "mesh": probes.values},
        parity_record.written(agreed) if fit else "",
        _diff(plan, config, fingerprints.values),
    )


def _not_skipped(results: Results) -> Results:
    """A step that was left out on purpose says nothing; what made it superfluous is a finding already."""
    return {node: result for node, result in results.items() if not (result and result.get("skipped"))}


def _recorded(record: str | None, path: str) -> tuple[Agreed, list[Finding]]:
    if record is None:
        return {}, []
    try:
        return parity_record.read(record), []
    except parity_record.InvalidRecord as error:
        remedy = f"bring {path} back from version control, or remove it: preflight then writes it anew"
        return {}, [Finding("record_invalid", (), f"what the fleet agreed on, in {path}", str(error), remedy)]


def _without_texts(fingerprints: Results) -> dict[str, Any]:
    """The fingerprints as evidence: a config that differs is not kept, nor is Axolotl's list of keys."""
    return {
        node: {
            **found,
            "config": {**found["config"], "content": None},
            "schema": {**found["schema"], "keys": None},
        }
        for node, found in fingerprints.items()
    }


def _diff(plan: Mapping[str, Any], config: str, fingerprints: Results) -> str:
    """Each config that differs against the controller's, once for the nodes that have the same."""
    texts: dict[str, list[str]] = {}
    for node, found in fingerprints.items():
        if config and found["config"]["content"] is not None:
            texts.setdefault(found["config"]["content"], []).append(node)
    name = plan["config"]["src"]
    return "\n".join(config_difference.unified(config, text, name, nodes) for text, nodes in texts.items())
