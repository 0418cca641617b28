# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is installed in a virtual environment, and whether its files are those that were installed.

Each package lists its files with digest and size in its RECORD (the Python packaging specification "Recording
installed projects").
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import unquote, urlparse

from ..core.lock_file import normalise_name
from .file_digests import file_sha256

_HASHERS = 8
"""Threads that hash, on as many processors at most; more than that and the disk is the limit."""
_INSTALLERS_OWN = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")
"""Files of the metadata that an installer writes and no wheel brings; some hold paths or times of the node."""


class Package(NamedTuple):
    """An installed package.

    Attributes:
        name: normalised.
        version: as the name of its metadata's folder has it.
        metadata: that folder.
    """

    name: str
    version: str
    metadata: str


class Checked(NamedTuple):
    """How the files of the packages stand to their RECORDs.

    Attributes:
        damaged: package to its first file that is missing or has another size.
        edited: package to its first file whose content differs, among those that may have changed since.
        sha256: one digest for all packages: names, versions, and their files' digests as recorded.
    """

    damaged: dict[str, str]
    edited: dict[str, str]
    sha256: str


class _Recorded(NamedTuple):
    """What RECORD says of a file; the path is relative to site-packages."""

    path: str
    digest: str
    size: int


class _Suspect(NamedTuple):
    """A file of a package that may have been edited, and where it lies."""

    package: str
    file: str
    recorded: _Recorded


def site_packages(venv: str) -> list[str]:
    """The folders into which packages are installed."""
    lib = os.path.join(venv, "lib")
    try:
        folders = [os.path.join(lib, name, "site-packages") for name in sorted(os.listdir(lib))]
    except OSError:
        return []
    return [folder for folder in folders if os.path.isdir(folder)]


def packages(venv: str) -> Iterator[Package]:
    """Each installed package."""
    for folder in site_packages(venv):
        for name in sorted(os.listdir(folder)):
            stem, suffix = os.path.splitext(name)
            metadata = os.path.join(folder, name)
            if suffix == ".dist-info" and "-" in stem and os.path.exists(os.path.join(metadata, "METADATA")):
                package, version = stem.rsplit("-", 1)
                yield Package(normalise_name(package), version, metadata)


def editable_path(metadata: str) -> str | None:
    """The folder that is installed as editable, None for a package with files of its own."""
    try:
        with open(os.path.join(metadata, "direct_url.json"), encoding="utf-8") as stream:
            direct = json.load(stream)
        if direct["dir_info"]["editable"]:
            return os.path.realpath(unquote(urlparse(direct["url"]).path))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def check(found: Iterable[Package], since: int | None) -> Checked:
    """Compare the files of packages with their RECORDs. Byte code is left out: Python itself rewrites it.

    Sizes are compared for all files. To hash some gigabytes takes half a minute, so contents are compared only where a
    file's times say that it may have changed; linking it into another environment moves its ctime, too.

    Args:
        found: the packages.
        since: nanoseconds since 1970, by the clock of their file system; contents of files that were last touched
            before it are trusted. None trusts all contents.
    """
    damaged: dict[str, str] = {}
    suspects: list[_Suspect] = []
    whole = hashlib.sha256()
    for package in sorted(found):
        folder, info = os.path.split(package.metadata)
        try:
            rows = list(_recorded(package.metadata))
        except (OSError, UnicodeDecodeError, ValueError, csv.Error):
            damaged[package.name] = "RECORD"
            continue
        # A package that is installed as editable has none but files with the path of the source in them.
        brought = [] if editable_path(package.metadata) else _brought(rows, info)
        whole.update(f"{package.name}=={package.version} {_digest(brought)}\n".encode())
        for row in rows:
            file = os.path.join(folder, row.path)
            try:
                status = os.stat(file)
            except OSError:
                status = None
            if status is None or status.st_size != row.size:
                damaged[package.name] = row.path
                break
            if since is not None and max(status.st_mtime_ns, status.st_ctime_ns) >= since:
                suspects.append(_Suspect(package.name, file, row))
    return Checked(damaged, _edited(suspects), whole.hexdigest())


def _recorded(metadata: str) -> Iterator[_Recorded]:
    with open(os.path.join(metadata, "RECORD"), encoding="utf-8", newline="") as stream:
        for row in csv.reader(stream):
            if len(row) == 3 and row[2] and not row[0].endswith(".pyc"):
                yield _Recorded(row[0], row[1], int(row[2]))


def _brought(rows: Iterable[_Recorded], info: str) -> list[_Recorded]:
    """What the wheel brought: scripts outside of site-packages hold the environment's own path."""
    own = {f"{info}/{name}" for name in _INSTALLERS_OWN}
    return [row for row in rows if not row.path.startswith(("../", "/")) and row.path not in own]


def _digest(rows: Iterable[_Recorded]) -> str:
    return hashlib.sha256("\n".join(sorted(f"{row.path},{row.digest}" for row in rows)).encode()).hexdigest()


def _edited(suspects: list[_Suspect]) -> dict[str, str]:
    """Package to the first of these files whose content is not the recorded one."""
    wrong: list[int] = []
    numbers = iter(range(len(suspects)))

    def work() -> None:
        for number in numbers:  # each number goes to one thread
            if not _is_intact(suspects[number]):
                wrong.append(number)

    hashers = min(_HASHERS, len(os.sched_getaffinity(0)), len(suspects))
    threads = [threading.Thread(target=work, daemon=True) for _number in range(hashers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found: dict[str, str] = {}
    for number in sorted(wrong):
        found.setdefault(suspects[number].package, suspects[number].recorded.path)
    return found


def _is_intact(suspect: _Suspect) -> bool:
    """Whether the content has the digest in RECORD: ``sha256=`` and URL-safe base64 without padding."""
    name, _equals, wanted = suspect.recorded.digest.partition("=")
    if name != "sha256":  # the specification allows others; no installer writes them
        return True
    try:
        digest = bytes.fromhex(file_sha256(suspect.file))
    except OSError:
        return False
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == wanted
