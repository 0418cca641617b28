# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what Axolotl has prepared on the nodes is what it would prepare now: a table of rules.

Axolotl takes a prepared dataset by the name of its folder, a digest of config fields, whatever it was prepared from
(src/axolotl/utils/data/shared.py). Which of several folders a config means can't be told from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from . import data_readings
from .comparison import outliers
from .data_readings import Folder, Prepared
from .findings import WARNING, Finding
from .rules_data import content

Plan = Mapping[str, Any]
Fingerprints = Mapping[str, Mapping[str, Any]]
Rule = Callable[[Plan, Fingerprints], Iterator[Finding]]


class Said(NamedTuple):
    """What is said of a node: the texts of a finding, and whether the training is certain to be concerned."""

    expected: str
    found: str
    remedy: str
    certain: bool = True


def _prepared(fingerprints: Fingerprints) -> Iterator[tuple[str, Prepared]]:
    for node, fingerprint in fingerprints.items():
        prepared = data_readings.prepared(fingerprint)
        if prepared:
            yield node, prepared


def _remedy(prepared: Prepared, folders: list[str]) -> str:
    where = ", ".join(f"{prepared.path}/{name}" for name in folders[:3])
    return f"remove {where} there; with training_files_preprocess, provision prepares it anew"


def _grouped(rule: Callable[[str, Prepared], Said | None], fingerprints: Fingerprints) -> dict[Said, list[str]]:
    """What is said of nodes one by one, and of which ones: of a thousand nodes all may have the same."""
    nodes_of: dict[Said, list[str]] = {}
    for node, prepared in _prepared(fingerprints):
        said = rule(node, prepared)
        if said:
            nodes_of.setdefault(said, []).append(node)
    return nodes_of


def _damaged(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    def rule(node: str, prepared: Prepared) -> Said | None:
        wrong = {}
        for name, folder in prepared.folders.items():
            if folder.problems:
                wrong[name] = folder.problems[0]
            elif folder.record and folder.record != folder.digest:
                was, now = folder.record[:12], folder.digest[:12]
                wrong[name] = f"its rows are not those that provision prepared (sha256 {was}, now {now})"
        found = [prepared.error] if prepared.error else [f"{name}: {what}" for name, what in wrong.items()]
        if not found:
            return None
        remedy = _remedy(prepared, list(wrong)) if wrong else f"see to {prepared.path} there"
        return Said(f"what is prepared in {prepared.path} is complete and as it was", "; ".join(found[:3]), remedy)

    for said, nodes in _grouped(rule, fingerprints).items():
        yield Finding("prepared_damaged", tuple(nodes), *said[:3])


def _stale(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    """What provision has prepared, and noted from what."""

    def rule(node: str, prepared: Prepared) -> Said | None:
        folders = [name for name, folder in prepared.folders.items() if folder.record]
        changed = _changed(plan, node, fingerprints[node], prepared)
        if not folders or not changed:
            return None
        expected = f"what is prepared in {prepared.path} is made from what the node has now"
        return Said(expected, f"it is made from other data: {'; '.join(changed[:5])}", _remedy(prepared, folders))

    for said, nodes in _grouped(rule, fingerprints).items():
        yield Finding("prepared_stale", tuple(nodes), *said[:3])


def _changed(plan: Plan, node: str, fingerprint: Mapping[str, Any], prepared: Prepared) -> list[str]:
    read = data_readings.inputs(fingerprint)
    changed = []
    for entry in plan["nodes"][node]["inputs"]:
        found, then = read.get(entry["name"]), prepared.inputs.get(entry["name"])
        now = (found.revision or found.data_digest) if found else ""
        if entry["prepares"] and now and then and now != then:
            changed.append(f"{entry['name']} was {then[:12]}, is {now[:12]}")
    return changed


def _older(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    """What the trainers have prepared themselves is judged by its time, since nobody noted from what."""

    def rule(node: str, prepared: Prepared) -> Said | None:
        read = data_readings.inputs(fingerprints[node])
        changes = {
            entry["name"]: read[entry["name"]].newest_ns
            for entry in plan["nodes"][node]["inputs"]
            if entry["prepares"] and entry["name"] in read
        }
        newest = max(changes, key=lambda name: changes[name], default="")
        complete = {name: folder for name, folder in prepared.folders.items() if folder.digest}
        older = [
            name for name, folder in complete.items() if not folder.record and folder.newest_ns < changes.get(newest, 0)
        ]
        if not older:
            return None
        expected = f"what is prepared in {prepared.path} is newer than {newest}, which it is made from"
        found = f"{', '.join(older[:3])} is older, and Axolotl would take it all the same"
        # Where there are newer ones too, the training may well take one of those.
        return Said(expected, found, _remedy(prepared, older), certain=len(older) == len(complete))

    for said, nodes in _grouped(rule, fingerprints).items():
        if said.certain:
            yield Finding("prepared_stale", tuple(nodes), *said[:3])
        else:
            yield Finding("prepared_stale", tuple(nodes), *said[:3], WARNING)


def _differs(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    held: dict[str, dict[str, Folder]] = {}
    of_node = dict(_prepared(fingerprints))
    for node, prepared in of_node.items():
        for name, folder in prepared.folders.items():
            if folder.digest:
                held.setdefault(name, {})[node] = folder
    for name, folders in held.items():
        result = outliers({node: folder.digest for node, folder in folders.items()}, plan["head"])
        reference = {folder.digest: folder for folder in folders.values()}[str(result.expected)]
        for digest, nodes in result.found.items():
            folder, prepared = folders[nodes[0]], of_node[nodes[0]]
            expected = f"{name} holds the same rows on all nodes, as on most: {content(reference.digest, reference)}"
            found = f"{prepared.path}/{name}: {content(str(digest), folder)}"
            remedy = _remedy(prepared, [name])
            if folder.files == reference.files:
                yield Finding("prepared_differs", tuple(nodes), expected, found, remedy)
            else:
                # As many processes cut it into as many files, so the same rows may lie in other ones.
                remedy = f"set dataset_num_proc in the config, so that all nodes cut it alike, and {remedy}"
                yield Finding("prepared_differs", tuple(nodes), expected, found, remedy, WARNING)


def _missing(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    nodes_of: dict[str, list[str]] = {}
    for node, prepared in _prepared(fingerprints):
        if plan["preprocess"] == "never" or fingerprints[node]["config"]["error"]:
            continue
        if not any(folder.record for folder in prepared.folders.values()):
            nodes_of.setdefault(f"nothing that provision has prepared in {prepared.path}", []).append(node)
        elif prepared.config != plan["config"]["sha256"]:
            nodes_of.setdefault(f"what is in {prepared.path} was prepared for another config", []).append(node)
    for found, nodes in nodes_of.items():
        expected = f"the dataset is prepared, since training_files_preprocess is {plan['preprocess']}"
        remedy = "run provision, which prepares it; else each of these nodes does when the training starts"
        yield Finding("prepared_missing", tuple(nodes), expected, found, remedy, WARNING)


RULES: tuple[Rule, ...] = (_damaged, _stale, _older, _differs, _missing)
