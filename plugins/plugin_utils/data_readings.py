# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node said of its training data, typed: a value of another type than its modules return counts as none."""

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
    problems: tuple[str, ...]
    newest_ns: int
    revision: str


class Folder(NamedTuple):
    """One prepared dataset; see module_utils/node/prepared_data.py. `record` is the digest that provision noted."""

    digest: str
    files: int
    size: int
    newest_ns: int
    record: str
    problems: tuple[str, ...]


class Prepared(NamedTuple):
    """A folder with prepared datasets; `inputs` and `config` are what provision noted."""

    path: str
    folders: dict[str, Folder]
    inputs: dict[str, str]
    config: str
    error: str


def held(value: Any) -> Held:
    """An input as node_fingerprint or tree_digest returned it."""
    known = _mapping(value)
    return Held(
        path=_text(known.get("path")),
        kind=_text(known.get("kind")),
        exists=known.get("exists") is True,
        digest=_text(known.get("digest")),
        data_digest=_text(known.get("data_digest")),
        files=_number(known.get("files")),
        size=_number(known.get("size")),
        problems=_texts(known.get("problems")),
        newest_ns=_number(known.get("newest_ns")),
        revision=_text(known.get("revision")),
    )


def inputs(fingerprint: Mapping[str, Any]) -> dict[str, Held]:
    """Everything that a node has read, by name."""
    return {str(name): held(value) for name, value in _mapping(fingerprint.get("inputs")).items()}


def prepared(fingerprint: Mapping[str, Any]) -> Prepared | None:
    """What a node has prepared; None where its training prepares nothing."""
    known = _mapping(fingerprint.get("prepared"))
    if not known:
        return None
    record = _mapping(known.get("record"))
    return Prepared(
        path=_text(known.get("path")),
        folders={str(name): _folder(_mapping(value)) for name, value in _mapping(known.get("folders")).items()},
        inputs={str(name): _text(value) for name, value in _mapping(record.get("inputs")).items()},
        config=_text(record.get("config")),
        error=_text(known.get("error")),
    )


def _folder(known: Mapping[Any, Any]) -> Folder:
    return Folder(
        digest=_text(known.get("digest")),
        files=_number(known.get("files")),
        size=_number(known.get("size")),
        newest_ns=_number(known.get("newest_ns")),
        record=_text(known.get("record")),
        problems=_texts(known.get("problems")),
    )


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
