# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a commit's pyproject.toml says about its extras and about how it is built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .lock_file import normalise_name

# What PEP 517 assumes of a project that doesn't name a build system.
_LEGACY_BUILD = ["setuptools>=40.8.0"]


class ProjectError(ValueError):
    """The project lacks what is asked of it; the message says what it has."""


def check_extras(project: Mapping[str, Any], extras: Iterable[str], commit: str) -> list[str]:
    """Return the extras as the project spells them. An unknown one is an error; pip would warn and go on without it."""
    metadata = project.get("project", {})
    wanted = list(extras)
    if "optional-dependencies" in metadata.get("dynamic", []):
        return wanted  # such a project computes its extras while it is built; uv itself refuses unknown ones
    known = {normalise_name(extra): extra for extra in metadata.get("optional-dependencies", {})}
    unknown = [extra for extra in wanted if normalise_name(extra) not in known]
    if unknown:
        raise ProjectError(
            f"commit {commit} defines no extra {', '.join(unknown)}; "
            f"it defines {', '.join(sorted(known.values())) or 'none'}: correct axolotl_extras"
        )
    return [known[normalise_name(extra)] for extra in wanted]


def build_requirements(project: Mapping[str, Any]) -> list[str]:
    """Packages that must be installed before the source can be, when nothing may be fetched for its build."""
    requires = project.get("build-system", {}).get("requires", _LEGACY_BUILD)
    return [str(requirement) for requirement in requires]
