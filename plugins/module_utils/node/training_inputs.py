# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a training reads on a node: its content by digest, or which version the Hub's cache has of it."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.manifest import root_digest
from .bounded import TookTooLong, within
from .digest_cache import DigestCache
from .file_digests import TreeReading, read_tree

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
"""Endings of files with a model's weights, on which a prepared dataset does not depend."""
LISTED = 5
"""Problems that are returned of each."""


def tree(path: str, cache: DigestCache | None) -> TreeReading:
    """The one way in which training data is digested: links count as what they point to, as for the trainers."""
    return read_tree(path, follow=True, cache=cache)


def read(
    inputs: Sequence[Mapping[str, Any]], timeout: float, cache: DigestCache | None = None
) -> dict[str, dict[str, Any]]:
    """Read every input within `timeout` seconds in all.

    Args:
        inputs: each with name, path and kind (``path`` or ``hub``), for ``hub`` also `repository` and `revision`.
        timeout: seconds; what can't be read by then has a problem and no digest.
        cache: keeps digests of large files.

    Returns:
        name to path, kind (a folder of the work folder that bears a Hub's name is a ``path``, as it is for the
        trainers), exists, digest (SHA-256; empty with problems), data_digest (the same without a model's weights),
        files, size (bytes), problems, newest_ns (when it was last changed, weights aside; 0 where that is not known)
        and revision (the commit in the Hub's cache; empty for a ``path``).
    """
    deadline = time.monotonic() + timeout
    found = {}
    for entry in inputs:
        path = str(entry["path"])
        left = deadline - time.monotonic()
        try:
            if left <= 0:
                raise TookTooLong
            found[str(entry["name"])] = within(left, _read, entry, path, cache)
        except (TookTooLong, OSError) as error:
            exists = isinstance(error, TookTooLong)
            problem = f"{path}: not read within {timeout:g} s" if exists else f"{path}: {error}"
            found[str(entry["name"])] = _found(path, exists=exists, problems=[problem])
    return found


def _read(entry: Mapping[str, Any], path: str, cache: DigestCache | None) -> dict[str, Any]:
    if entry["kind"] == "hub" and not os.path.lexists(path):
        return _snapshot(str(entry["repository"]), str(entry["revision"]))
    reading = tree(path, cache)
    data = [item for item in reading.entries if not item.path.endswith(WEIGHTS)]
    whole = len(data) == len(reading.entries)
    return _found(
        path,
        exists=reading.exists,
        digest=reading.digest,
        data_digest=reading.digest if whole or not reading.digest else root_digest(data),
        files=reading.files,
        size=reading.size,
        problems=reading.problems[:LISTED],
        newest_ns=_newest([os.path.join(path, item.path) if item.path else path for item in data]),
    )


def _newest(files: Sequence[str]) -> int:
    """When the files were last changed or put there, or one was taken away from beside them."""
    newest = 0
    for path in {*files, *(os.path.dirname(file) for file in files[1:])}:  # of a single file the folder is another's
        with contextlib.suppress(OSError):
            status = os.stat(path)
            # A copy may keep the time of change; the inode is new all the same. A folder's inode says nothing.
            changed = 0 if stat.S_ISDIR(status.st_mode) else status.st_ctime_ns
            newest = max(newest, status.st_mtime_ns, changed)
    return newest


def snapshot(repository: str, revision: str) -> str:
    """Folder in the Hub's cache that a revision would be read from: of a branch's newest known commit, or of the commit
    itself; empty where it is not there."""
    commit = revision
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        try:
            with open(os.path.join(repository, "refs", revision), encoding="utf-8") as stream:
                commit = stream.read(100).strip()
        except (OSError, UnicodeDecodeError, ValueError):
            return ""
    folder = os.path.join(repository, "snapshots", commit)
    return folder if re.fullmatch(r"[0-9a-f]{40}", commit) and os.path.isdir(folder) else ""


def _snapshot(repository: str, revision: str) -> dict[str, Any]:
    """What the Hub's cache would give for a revision, and since when a branch has been there."""
    newest = 0
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        with contextlib.suppress(OSError):
            newest = os.stat(os.path.join(repository, "refs", revision)).st_mtime_ns
    folder = snapshot(repository, revision)
    return _found(repository, kind="hub", exists=bool(folder), revision=os.path.basename(folder), newest_ns=newest)


def _found(path: str, **facts: Any) -> dict[str, Any]:
    return {
        "path": path,
        "kind": "path",
        "exists": False,
        "digest": "",
        "data_digest": "",
        "files": 0,
        "size": 0,
        "problems": [],
        "newest_ns": 0,
        "revision": "",
        **facts,
    }
