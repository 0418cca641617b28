# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A wheelhouse holds one wheel for each locked package, for the platform of the nodes and not for the controller's.

The lock was compiled in uv's words; the wheels are fetched with pip, because uv has no command for that. What the two
call differently is translated here. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from .lock_file import normalise_name

TORCH_INDEX = "https://download.pytorch.org/whl/"
"""PyTorch's own indexes, one per backend; where uv looks when it is given a `--torch-backend`."""

_OLDEST = 5  # glibc 2.5, of manylinux1 (PEP 513)
_NEWEST = 28  # what uv means by `linux`: manylinux_2_28 (uv's documentation of --python-platform)
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}  # PEP 600 gives these their new names
_PLATFORM = re.compile(
    r"(?P<machine>x86_64|aarch64)-(?:manylinux_2_(?P<minor>\d+)|(?P<old>manylinux2014)|unknown-linux-gnu)"
)
_UV_OPTIONS = {
    "UV_DEFAULT_INDEX": "--index-url",
    "UV_INDEX_URL": "--index-url",
    "UV_INDEX": "--extra-index-url",
    "UV_EXTRA_INDEX_URL": "--extra-index-url",
    "UV_FIND_LINKS": "--find-links",
}


class WheelhouseError(ValueError):
    """No complete wheelhouse can be made; the message says of what and what to do."""


class Wheel(NamedTuple):
    """A wheel's file name, taken apart (PEP 427)."""

    name: str
    """The project's normalised name."""
    version: str
    any_platform: bool
    """Whether it runs on every platform and every Python that it names."""


def parse_wheel(filename: str) -> Wheel:
    """Take the file name of a wheel apart.

    Raises:
        WheelhouseError: it is none.
    """
    parts = filename[: -len(".whl")].split("-") if filename.endswith(".whl") else []
    if len(parts) not in (5, 6):
        raise WheelhouseError(f"{filename} is not named as a wheel is")
    return Wheel(normalise_name(parts[0]), parts[1], parts[-2:] == ["none", "any"])


def pip_platforms(python_platform: str) -> list[str]:
    """Platforms that pip is to accept for one of uv's, the best first; pip doesn't know that newer ones include older.

    Raises:
        WheelhouseError: it is a platform for which nothing can be fetched from elsewhere.
    """
    match = _PLATFORM.fullmatch("x86_64-unknown-linux-gnu" if python_platform == "linux" else python_platform)
    if not match:
        raise WheelhouseError(
            f"axolotl_delivery: push can't tell which wheels run on {python_platform!r}: "
            "set axolotl_python_platform to x86_64-manylinux_2_28, for example "
            "(x86_64 or aarch64; the number is the nodes' glibc)"
        )
    newest = int(match["minor"] or (17 if match["old"] else _NEWEST))
    names = []
    for minor in range(newest, _OLDEST - 1, -1):
        names += [f"manylinux_2_{minor}", *([_OLD_NAMES[minor]] if minor in _OLD_NAMES else [])]
    return [f"{name}_{match['machine']}" for name in [*names, "linux"]]


def pip_indexes(environment: Mapping[str, str], torch_backend: str) -> list[str]:
    """Options for pip where uv was told other places than pip's configuration knows."""
    options = []
    for variable, option in _UV_OPTIONS.items():
        for place in re.split(r"[\s,]+", environment.get(variable, "")):
            if place:
                # uv lets an index have a name: `name=URL`
                options += [option, place.partition("=")[2] if re.match(r"[\w-]+=\w+://", place) else place]
    if torch_backend:
        options += ["--extra-index-url", TORCH_INDEX + torch_backend]
    return options


def requirements(locked: Mapping[str, str], wheels: Mapping[str, str]) -> str:
    """What a node installs: every locked package at its version, by the digest of the one wheel that is there.

    Args:
        locked: version (or URL) by normalised name, as `parse_lock` gives it.
        wheels: SHA-256 by file name.

    Raises:
        WheelhouseError: a package has no wheel, or more than one, or one of another version.
    """
    by_name: dict[str, list[str]] = {}
    for filename in sorted(wheels):
        by_name.setdefault(parse_wheel(filename).name, []).append(filename)
    lines = []
    for name, version in sorted(locked.items()):
        found = by_name.get(name, [])
        if len(found) != 1:
            raise WheelhouseError(f"{name} {version} needs one wheel, found {', '.join(found) or 'none'}")
        has = parse_wheel(found[0]).version
        # A build number or a + in a version is written differently in file names (PEP 427).
        if "://" not in version and has.replace("_", "+") != version.replace("-", "+").replace("_", "+"):
            raise WheelhouseError(f"{name} is locked at {version}, the wheel is {found[0]}")
        lines.append(f"{name}=={has if '://' in version else version} --hash=sha256:{wheels[found[0]]}\n")
    return "".join(lines)
