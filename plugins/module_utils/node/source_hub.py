# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches a model or a dataset from the Hugging Face Hub with the Hub's own library, and verifies every file.

The library is that of the release on a node, and on a controller one of the version that the release's lock names.
It runs in an interpreter of its own, so the token is in nobody's argument list.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from .commands import run
from .disk_room import free_bytes, too_small
from .source_error import SourceError

# Arguments: kind of repository, its name, revision, patterns as JSON.
_LIST = """
import json, sys
from huggingface_hub import HfApi
from huggingface_hub.utils import filter_repo_objects
kind, name, revision, include = sys.argv[1:]
tree = HfApi().list_repo_tree(name, recursive=True, revision=revision, repo_type=kind)
files = [item for item in tree if hasattr(item, "blob_id")]
wanted = filter_repo_objects(files, allow_patterns=json.loads(include) or None, key=lambda item: item.path)
print("\\n" + json.dumps({
    item.path: [item.size, "sha256" if item.lfs else "blob", item.lfs.sha256 if item.lfs else item.blob_id]
    for item in wanted
}))
"""
_DOWNLOAD = """
import json, sys
from huggingface_hub import snapshot_download
kind, name, revision, include, folder = sys.argv[1:]
snapshot_download(
    name, repo_type=kind, revision=revision, local_dir=folder, allow_patterns=json.loads(include) or None
)
"""
# Trainers are often told to stay off the net; this is the time to be on it.
_ONLINE = {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
_CHUNK = 1 << 20


def fetch_hub(
    source: Mapping[str, Any], into: str, python: Sequence[str], environment: Mapping[str, str], timeout: float
) -> None:
    """Have the files of `source` (location, version: the Hub's full commit, include) in the folder `into`.

    Args:
        source: where and what; a location that begins with datasets/ is a dataset, any other a model.
        into: the folder; what an earlier attempt left there is gone on with.
        python: command of an interpreter that can import huggingface_hub.
        environment: HF_TOKEN, HF_ENDPOINT, proxies; added to this process's own.
        timeout: seconds for the download.

    Raises:
        SourceError: the Hub did not give it, the disk is too small, or a file is not what the Hub says that it is.
        OSError: it can't be written.
    """
    name = source["location"].removeprefix("datasets/")
    kind = "model" if name == source["location"] else "dataset"
    what = [kind, name, source["version"], json.dumps(source["include"])]
    hub = _Hub(source["location"], python, {**environment, **_ONLINE}, timeout)
    files = json.loads(hub.ask(_LIST, *what).splitlines()[-1])
    if not files:
        raise SourceError(f"{source['location']} has no file that include names: {', '.join(source['include'])}")
    size, free = sum(entry[0] for entry in files.values()), free_bytes(into)
    if size > free:
        raise SourceError(too_small(into, size, free, source["location"]))
    hub.ask(_DOWNLOAD, *what, into)
    wrong = sorted(path for path, entry in files.items() if _digest(os.path.join(into, path), entry[1]) != entry[2])
    if wrong:
        names = ", ".join(wrong[:3])
        raise SourceError(f"{source['location']}: {len(wrong)} file(s) are not what the Hub says: {names}")
    shutil.rmtree(os.path.join(into, ".cache"), ignore_errors=True)  # the library's own notes


class _Hub:
    """Asks the library, in its own interpreter."""

    def __init__(self, location: str, python: Sequence[str], environment: Mapping[str, str], timeout: float) -> None:
        self._location = location
        self._python = python
        self._environment = environment
        self._timeout = timeout

    def ask(self, program: str, *arguments: str) -> str:
        done = run([*self._python, "-c", program, *arguments], self._timeout, env=self._environment, max_output=1 << 26)
        if done.rc or done.timed_out:
            raise SourceError(f"the Hub did not give {self._location}: {done.message(1000)}")
        return done.stdout


def _digest(path: str, algorithm: str) -> str:
    """A file's SHA-256, or its name as a blob of git: SHA-1 of its length and content. Empty where there is none."""
    try:
        with open(path, "rb") as stream:
            state = hashlib.sha256()
            if algorithm == "blob":
                state = hashlib.sha1(b"blob %d\0" % os.fstat(stream.fileno()).st_size, usedforsecurity=False)
            for chunk in iter(lambda: stream.read(_CHUNK), b""):
                state.update(chunk)
    except FileNotFoundError:
        return ""
    return state.hexdigest()
