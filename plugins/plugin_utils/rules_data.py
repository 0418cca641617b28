# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether all nodes read the same data, tokenizer and model: a table of rules. What is prepared is in rules_prepared.

Axolotl names a prepared dataset after its config, and no one compares contents: each node would train on what it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from . import data_readings, training_inputs
from .comparison import outliers
from .data_readings import Folder, Held
from .findings import WARNING, Finding

Plan = Mapping[str, Any]
Fingerprints = Mapping[str, Mapping[str, Any]]
Rule = Callable[[Plan, Fingerprints], Iterator[Finding]]

COMPARED = 8
"""Contents that are compared file by file; of more it is enough to know that they are other ones."""


class Difference(NamedTuple):
    """One content of an input that is not the expected one.

    Attributes:
        name: the input.
        digest: of the other content.
        nodes: who has that.
        reference: a node with the expected content; empty for the controller, None where nobody has it.
        expected: what is expected, for people.
    """

    name: str
    digest: str
    nodes: tuple[str, ...]
    reference: str | None
    expected: str


def differences(plan: Plan, fingerprints: Fingerprints) -> Iterator[Difference]:
    """Every content of a file or folder that the training reads and that is not the expected one.

    Expected is the controller's copy (`controller_inputs` of the plan, name to Held), or the SHA-256 that the inventory
    gives for a URL; else what most nodes have, and in a tie the head.
    """
    for name, seen in _seen(plan, fingerprints, "path").items():
        known = {node: found for node, found in seen.items() if found.digest}
        here = plan.get("controller_inputs", {}).get(name)
        pinned = here.digest if here else _version(plan, name)
        result = outliers({node: found.digest for node, found in known.items()}, plan["head"], pinned or None)
        for digest, nodes in result.found.items():
            agreeing = next((node for node, found in known.items() if found.digest == result.expected), None)
            whose = "on the controller" if here else "the version of its URL" if pinned else "on most nodes"
            holder = here if here else known[agreeing] if agreeing else None
            expected = f"{name} as {whose}: {content(str(result.expected), holder)}"
            yield Difference(name, str(digest), tuple(nodes), "" if here else agreeing, expected)


def agreed(fingerprints: Fingerprints) -> dict[str, str]:
    """What all nodes have of the data: name to digest, or to the commit in the Hub's cache."""
    held: dict[str, set[str]] = {}
    for fingerprint in fingerprints.values():
        for name, found in data_readings.inputs(fingerprint).items():
            held.setdefault(name, set()).add(found.revision or found.digest)
    return {name: min(values) for name, values in held.items() if len(values) == 1 and all(values)}


def informed(plan: Plan, here: Mapping[str, Any], compared: Mapping[str, Any]) -> dict[str, Any]:
    """The plan with what the rules of this table take from beside the nodes.

    Args:
        plan: the launch plan.
        here: the result of a loop of tree_digest over training files on the controller; empty where there was none.
        compared: the result of a loop of tree_digest over what `to_compare` gave, each with what was compared in
            `item.item`; empty where there was none.
    """
    read = [item for item in here.get("results", []) if item.get("digest")]
    copies = {item["item"]["dest"]: data_readings.copied(item) for item in read}
    summaries = {
        (item["item"]["item"]["name"], item["item"]["item"]["digest"]): item["summary"]
        for item in compared.get("results", [])
        if item.get("summary") and item["difference"]["different"] != [""]  # a file by itself is named already
    }
    return {**plan, "controller_inputs": copies, "input_differences": summaries}


def to_compare(plan: Plan, fingerprints: Fingerprints) -> list[dict[str, str]]:
    """What has to be compared file by file to say which files differ: each other content once, on one of its nodes.

    Returns:
        Up to COMPARED, each with name, digest, node and path (who has it, and where), reference (who has the expected
        content, empty for the controller) and expected (where).
    """
    listed = []
    for difference in differences(plan, fingerprints):
        node, reference = difference.nodes[0], difference.reference
        if reference is not None:
            source = (_entry(plan, difference.name) or {}).get("src", "")
            there = data_readings.inputs(fingerprints[reference])[difference.name].path if reference else source
            listed.append(
                {
                    "name": difference.name,
                    "digest": difference.digest,
                    "node": node,
                    "path": data_readings.inputs(fingerprints[node])[difference.name].path,
                    "reference": reference,
                    "expected": there,
                }
            )
    return listed[:COMPARED]


def content(digest: str, found: Held | Folder | None) -> str:
    """A content for people: digest, number of files, and bytes in the units of disks and networks."""
    short = f"sha256 {digest[:12] or 'unknown'}"
    if found is None:
        return short
    size, unit = float(found.size), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    files = "1 file" if found.files == 1 else f"{found.files} files"
    return f"{short} ({files}, {size:.0f} {unit})" if unit == "bytes" else f"{short} ({files}, {size:.1f} {unit})"


def _seen(plan: Plan, fingerprints: Fingerprints, kind: str) -> dict[str, dict[str, Held]]:
    """Name of each input of a kind to what the nodes found of it."""
    found: dict[str, dict[str, Held]] = {}
    for node, fingerprint in fingerprints.items():
        read = data_readings.inputs(fingerprint)
        for entry in plan["nodes"][node]["inputs"]:
            if entry["kind"] == kind and entry["name"] in read:
                found.setdefault(entry["name"], {})[node] = read[entry["name"]]
    return found


def _entry(plan: Plan, name: str) -> Mapping[str, Any] | None:
    """The training file of that name, where the input is one."""
    return next((entry for entry in plan["training_files"] if entry["dest"] == name), None)


def _version(plan: Plan, name: str) -> str:
    """The digest that the inventory gives for a file from a URL."""
    source = (_entry(plan, name) or {}).get("source") or {}
    return str(source["version"]) if source.get("kind") == "url" else ""


def _remedy(plan: Plan, name: str) -> str:
    entry = _entry(plan, name)
    if entry is None:
        return "give all nodes the same there, or list it in axolotl_training_files, so that provision brings it"
    if entry["storage"] == "shared":
        return "correct it on the shared storage, or the mount on these nodes"
    return "run provision, which copies what is missing or differs, and names what is in the way"


def _training_file(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    for difference in differences(plan, fingerprints):
        found = data_readings.inputs(fingerprints[difference.nodes[0]])[difference.name]
        named = plan.get("input_differences", {}).get((difference.name, difference.digest))
        said = f"{found.path}: {content(difference.digest, found)}" + (f"; {named}" if named else "")
        remedy = _remedy(plan, difference.name)
        yield Finding("training_file", difference.nodes, difference.expected, said, remedy)


def _unreadable(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    nodes_of: dict[tuple[str, str], list[str]] = {}
    for name, seen in _seen(plan, fingerprints, "path").items():
        for node, found in seen.items():
            if found.digest or (not found.exists and _explained(plan, fingerprints[node], name)):
                continue
            problem = "; ".join(found.problems[:3]) if found.exists else f"nothing at {found.path}"
            nodes_of.setdefault((name, problem or "it has no digest"), []).append(node)
    for (name, problem), nodes in nodes_of.items():
        expected = f"{name}, which the training reads, can be read as a whole"
        yield Finding("training_file", tuple(nodes), expected, problem, _remedy(plan, name))


def _explained(plan: Plan, fingerprint: Mapping[str, Any], name: str) -> bool:
    """Whether a missing input is no finding of its own.

    A node without config was never provisioned, which is said already; a dataset that is prepared is not read again.
    """
    if _entry(plan, name):
        return bool(fingerprint["config"]["error"])
    return _is_prepared(plan, fingerprint, name)


def _is_prepared(plan: Plan, fingerprint: Mapping[str, Any], name: str) -> bool:
    inputs = plan["nodes"][plan["head"]]["inputs"]
    is_dataset = any(entry["dataset"] for entry in inputs if entry["name"] == name)
    prepared = data_readings.prepared(fingerprint)
    return is_dataset and prepared is not None and bool(prepared.folders)


def _hub(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    """Off the net the cache decides; on the net a branch is asked for again, and a difference may be gone then."""
    offline = any(training_inputs.offline(part["environment"]) for part in plan["nodes"].values())
    bring = "have provision bring it: hub and revision in axolotl_training_files"
    for name, seen in _seen(plan, fingerprints, "hub").items():
        lacking = {
            node: found
            for node, found in seen.items()
            if not found.exists and not _is_prepared(plan, fingerprints[node], name)
        }
        if offline and lacking:
            expected = f"{name} is in the Hub's cache, since HF_HUB_OFFLINE keeps the trainers off the net"
            where = f"it is not in {lacking[min(lacking)].path}"
            yield Finding("hub_missing", tuple(lacking), expected, where, f"fetch it there first, or {bring}")
        held = {node: _held(found) for node, found in seen.items() if found.exists}
        result = outliers(held, plan["head"])
        for other, nodes in result.found.items():
            expected = f"{name} as on most nodes: {result.expected}"
            remedy = f"name the revision in the config and fetch it on all nodes, or {bring}"
            if offline:
                yield Finding("hub_revision", tuple(nodes), expected, str(other), remedy)
            else:
                yield Finding("hub_revision", tuple(nodes), expected, str(other), remedy, WARNING)


def _held(found: Held) -> str:
    if found.kind == "hub":
        return f"commit {found.revision} in the Hub's cache"
    return f"what lies at {found.path}, {content(found.digest, found)}"


def _as_recorded(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    """A run that is run again needs the data of that time."""
    again = plan.get("rerun") or {}
    now = agreed(fingerprints)
    for name, digest in again.get("data", {}).items():
        if name in now and now[name] != digest:
            expected = f"{name} as in run {again['run_id']}: {digest[:12]}"
            remedy = "bring that data back, or launch without rerun"
            yield Finding("rerun_data", (), expected, now[name][:12], remedy)


RULES: tuple[Rule, ...] = (_training_file, _unreadable, _hub, _as_recorded)
