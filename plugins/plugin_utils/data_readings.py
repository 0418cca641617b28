# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node said of its training data, typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Held(NamedTuple):
    """What a node has of one input; see module_utils/node/training_inputs.py."""

    path: str
    kind: str
    exists: bool
    digest: str
    data_digest: str
    files: int
    size: int
    problems: list[str]
    newest_ns: int
    revision: str


class Folder(NamedTuple):
    """One prepared dataset; see module_utils/node/prepared_data.py. `record` is the digest that provision noted."""

    digest: str
    files: int
    size: int
    newest_ns: int
    record: str
    problems: list[str]


class Prepared(NamedTuple):
    """A folder with prepared datasets; `inputs` and `config` are what provision noted."""

    path: str
    folders: dict[str, Folder]
    inputs: dict[str, str]
    config: str
    error: str


def held(value: Mapping[str, Any]) -> Held:
    """An input as node_fingerprint returned it."""
    return Held(**{name: value[name] for name in Held._fields})


def copied(value: Mapping[str, Any]) -> Held:
    """A training file on the controller, as tree_digest returned it."""
    digest = value["digest"]
    return Held("", "path", True, digest, digest, value["files"], value["size"], [], 0, "")


def inputs(fingerprint: Mapping[str, Any]) -> dict[str, Held]:
    """Everything that a node has read, by name."""
    return {name: held(value) for name, value in fingerprint["inputs"].items()}


def prepared(fingerprint: Mapping[str, Any]) -> Prepared | None:
    """What a node has prepared; None where its training prepares nothing."""
    known = fingerprint["prepared"]
    if not known:
        return None
    return Prepared(
        path=known["path"],
        folders={name: _folder(value) for name, value in known["folders"].items()},
        inputs=known["record"].get("inputs", {}),
        config=known["record"].get("config", ""),
        error=known["error"] or "",
    )


def _folder(known: Mapping[str, Any]) -> Folder:
    return Folder(**{name: known[name] for name in Folder._fields})
