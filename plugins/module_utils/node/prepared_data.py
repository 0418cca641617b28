# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the datasets that Axolotl has prepared, and the record of what provision prepared them from.

Axolotl keeps each in a folder whose name is a digest of config fields (src/axolotl/utils/data/shared.py), in the form
of the datasets library: `state.json` lists the files with the rows. Of its other fields, the fingerprint differs with
the path and the time of change of what was read, and caches of the trainers lie beside the rows; so the rows alone
are what is compared.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from ..core.manifest import Entry, root_digest
from .bounded import TookTooLong, within
from .digest_cache import DigestCache
from .training_inputs import tree

RECORD = ".gpufleet-prepared.json"
_NAME = re.compile(r"[0-9a-f]{32}")
_INFORMATION = ("state.json", "dataset_info.json")


def read(path: str, timeout: float, cache: DigestCache | None = None) -> dict[str, Any]:
    """Read a folder with prepared datasets.

    Args:
        path: the folder, which need not exist.
        timeout: seconds.
        cache: keeps digests of large files.

    Returns:
        path, exists, record (what provision noted; empty where it noted nothing), error (None where all could be
        looked at) and folders: name to digest (SHA-256 over the rows' files; empty with problems), files, size (bytes),
        newest_ns (when it was completed), record (the digest that provision noted; empty where it noted none) and
        problems.
    """
    found: dict[str, Any] = {"path": path, "exists": os.path.isdir(path), "folders": {}, "record": {}, "error": None}
    if found["exists"]:
        try:
            found["folders"], found["record"] = within(timeout, _read, path, cache)
        except TookTooLong:
            found["error"] = f"not read within {timeout:g} s"
        except OSError as error:
            found["error"] = error.strerror or str(error)
    return found


def read_record(path: str) -> dict[str, Any]:
    """What provision noted of the folder: inputs, config, options, release and folders; empty where it noted nothing.

    `inputs` is name to digest or revision, `folders` name to digest.
    """
    try:
        with open(os.path.join(path, RECORD), encoding="utf-8") as stream:
            record = json.load(stream)
    except (OSError, ValueError):
        return {}
    texts = ("config", "release")
    valid = isinstance(record, dict) and all(isinstance(record.get(name), str) for name in texts)
    if not valid or not all(_of_texts(record.get(name)) for name in ("inputs", "folders")):
        return {}
    return dict(record)


def folders(path: str, cache: DigestCache | None = None) -> dict[str, dict[str, Any]]:
    """Every prepared dataset in the folder, as `read` returns them, without what provision noted.

    Raises:
        OSError: the folder can't be listed.
    """
    names = [entry.name for entry in os.scandir(path) if entry.is_dir() and _NAME.fullmatch(entry.name)]
    return {name: _folder(os.path.join(path, name), cache) for name in sorted(names) if os.listdir(f"{path}/{name}")}


def entries(path: str, record: Mapping[str, Any]) -> list[Entry]:
    """The files of what provision prepared, with the record itself: what another node needs to have the same.

    Raises:
        OSError: the folder is damaged.
    """
    wanted = [RECORD]
    for name in sorted(record["folders"]):
        wanted += [f"{name}/{file}" for file in (*_INFORMATION, *_row_files(os.path.join(path, name)))]
    listed = []
    for file in wanted:
        for entry in tree(os.path.join(path, file), None).entries:
            listed.append(entry._replace(path=file))
    return listed


def digest(path: str, cache: DigestCache | None = None) -> str:
    """One digest for all that provision prepared; empty where it noted nothing, or the rows are not what it noted."""
    record = read_record(path)
    if not record.get("folders"):
        return ""
    found = {name: _folder(os.path.join(path, name), cache)["digest"] for name in record["folders"]}
    if found != record["folders"]:
        return ""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _read(path: str, cache: DigestCache | None) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    record = read_record(path)
    noted = record.get("folders", {})
    found = folders(path, cache)
    return {name: {**folder, "record": noted.get(name, "")} for name, folder in found.items()}, record


def _of_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _row_files(folder: str) -> list[str]:
    """Names of the files with the rows.

    Raises:
        OSError: `state.json` is missing, as in a folder that was not completed, or lists none.
    """
    with open(os.path.join(folder, "state.json"), encoding="utf-8") as stream:
        try:
            names = [str(file["filename"]) for file in json.load(stream)["_data_files"]]
        except (ValueError, KeyError, TypeError):
            names = []
    if not names or any(os.path.basename(name) != name for name in names):
        raise OSError("state.json lists no files")
    return sorted(names)


def _folder(folder: str, cache: DigestCache | None) -> dict[str, Any]:
    try:
        names = _row_files(folder)
        completed = os.stat(os.path.join(folder, "state.json")).st_mtime_ns
    except OSError as error:
        return _unread(f"{error.filename or folder}: {error.strerror or error}")
    rows, problems = [], []
    for name in names:
        reading = tree(os.path.join(folder, name), cache)
        problems += reading.problems
        rows += [entry._replace(path=name) for entry in reading.entries]
    return {
        "digest": "" if problems else root_digest(rows),
        "files": len(names),
        "size": sum(entry.size for entry in rows),
        "newest_ns": completed,
        "record": "",
        "problems": problems[:5],
    }


def _unread(problem: str) -> dict[str, Any]:
    return {"digest": "", "files": 0, "size": 0, "newest_ns": 0, "record": "", "problems": [problem]}
