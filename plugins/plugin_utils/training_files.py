# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Training files: where each comes from, in which version, and where it lies on the nodes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from .setting_types import InvalidValue, filled, full_sha, mapping, text, text_list

EXPECTED = "a list of {dest, storage}, each with src, url and sha256, git and revision, or hub and revision"
VERSIONS = {"url": "sha256", "git": "revision", "hub": "revision"}
"""Kind of a source to the key that says which version of it is meant; what has none could be other data tomorrow."""
_KEYS = {"src", "dest", "storage", "include", *VERSIONS, *VERSIONS.values()}


def training_files(value: Any) -> list[dict[str, Any]]:
    """Read `axolotl_training_files`.

    Returns:
        Per entry: dest, storage, src (on the controller, or empty) and source: None, or kind, location, version and
        include (patterns of what is wanted of a hub's repository; none for all of it).

    Raises:
        InvalidValue: an entry is none; the message says what is expected.
    """
    if not isinstance(value, list):
        raise InvalidValue(EXPECTED)
    return [_training_file(mapping(entry)) for entry in value]


def _training_file(entry: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(entry) - _KEYS)
    if unknown:
        raise InvalidValue(f"{EXPECTED}; unknown: {', '.join(unknown)}")
    origins = [name for name in ("src", *VERSIONS) if entry.get(name)]
    storage = entry.get("storage", "copy")
    if storage not in ("copy", "shared"):
        raise InvalidValue("storage copy or shared in each training file")
    if not entry.get("dest") or len(origins) > 1:
        raise InvalidValue(EXPECTED)
    if storage == "copy" and not origins:
        raise InvalidValue("src, url, git or hub for each training file that is not on shared storage already")
    kind = origins[0] if origins else "src"
    _belongs(entry, kind)
    return {
        "src": text(entry.get("src", "")),
        "dest": filled(entry["dest"]),
        "storage": storage,
        "source": None if kind == "src" else _source(kind, entry),
    }


def _belongs(entry: Mapping[str, Any], kind: str) -> None:
    allowed = {"src": set(), "url": {"sha256"}, "git": {"revision"}, "hub": {"revision", "include"}}[kind]
    foreign = sorted(({"sha256", "revision", "include"} & set(entry)) - allowed)
    if foreign:
        raise InvalidValue(f"no {foreign[0]} beside {kind}")


def _source(kind: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    location = filled(entry[kind])
    version = entry.get(VERSIONS[kind])
    if kind == "url":
        if urlsplit(location).scheme not in ("https", "http", "file"):
            raise InvalidValue("an https, http or file URL")
        if not isinstance(version, str) or not re.fullmatch(r"[0-9a-f]{64}", version.lower()):
            raise InvalidValue(f"sha256 (64 hex digits) of the file at {location}")
        version = version.lower()
    else:
        version = full_sha(version if version is not None else "")
    if kind == "hub" and not re.fullmatch(r"(?:datasets/)?[\w.-]+/[\w.-]+", location):
        raise InvalidValue("a repository on the hub, as organisation/model or datasets/organisation/dataset")
    return {"kind": kind, "location": location, "version": version, "include": text_list(entry.get("include", []))}
