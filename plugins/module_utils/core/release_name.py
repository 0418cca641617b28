# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of releases and of locks, derived from exactly the inputs that decide what ends up on a node."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable

_FULL_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHORT = 12


class ReleaseNameError(ValueError):
    """An input that can't name a release; the message says what was expected and what was found."""


def full_commit(commit: str) -> str:
    """Return the commit when it is a full one: a branch, a tag or a short SHA names something else tomorrow."""
    if not _FULL_COMMIT.fullmatch(commit):
        raise ReleaseNameError(
            f"the commit must be a full SHA of 40 lower-case hex digits, found {commit!r}: "
            "set axolotl_commit (`git rev-parse <branch, tag or short SHA>` prints the full one)"
        )
    return commit


def canonical_extras(extras: Iterable[str]) -> list[str]:
    """Extras as packaging compares them: normalised, sorted, each once."""
    return sorted({re.sub(r"[-_.]+", "-", extra).lower() for extra in extras})


def release_id(
    commit: str,
    lock_sha256: str,
    extras: Iterable[str],
    python_version: str,
    python_platform: str,
    torch_backend: str,
) -> str:
    """Name of the folder of a release: two nodes with the same name hold the same code and the same packages."""
    if not _SHA256.fullmatch(lock_sha256):
        raise ReleaseNameError(f"the lock's SHA-256 must be 64 lower-case hex digits, found {lock_sha256!r}")
    digest = _digest(
        {
            "commit": full_commit(commit),
            "extras": canonical_extras(extras),
            "lock_sha256": lock_sha256,
            "python_platform": python_platform,
            "python_version": python_version,
            "torch_backend": torch_backend,
        }
    )
    return f"{commit[:_SHORT]}-{digest}"


def lock_inputs(
    commit: str,
    extras: Iterable[str],
    requirements: Iterable[str],
    python_version: str,
    python_platform: str,
    torch_backend: str,
) -> dict[str, object]:
    """What a lock is compiled from, in canonical form; the order of requirement lines carries no meaning."""
    return {
        "commit": full_commit(commit),
        "extras": canonical_extras(extras),
        "python_platform": python_platform,
        "python_version": python_version,
        "requirements": sorted({line.strip() for line in requirements} - {""}),
        "torch_backend": torch_backend,
    }


def lock_key(
    commit: str,
    extras: Iterable[str],
    requirements: Iterable[str],
    python_version: str,
    python_platform: str,
    torch_backend: str,
) -> str:
    """Base name of the lock for these inputs. It holds the Python version so that people can tell locks apart."""
    if not _FILE_NAME.fullmatch(python_version):
        raise ReleaseNameError(
            f"the Python version must look like 3.11, found {python_version!r}: set axolotl_python_version"
        )
    inputs = lock_inputs(commit, extras, requirements, python_version, python_platform, torch_backend)
    return f"{commit[:_SHORT]}-py{python_version}-{_digest(inputs)}"


def _digest(value: object) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:_SHORT]
