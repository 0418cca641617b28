# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An extra that the commit doesn't define is an error, and what a build needs is known before it runs."""

from __future__ import annotations

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.pyproject import (
    ProjectError,
    build_requirements,
    check_extras,
)

PROJECT = {
    "build-system": {"requires": ["setuptools>=64", "wheel"]},
    "project": {"optional-dependencies": {"ring-flash-attn": [], "ray": []}},
}


def test_known_extras_get_the_projects_spelling() -> None:
    assert check_extras(PROJECT, ["Ring_Flash.Attn", "ray"], "c") == ["ring-flash-attn", "ray"]


def test_an_unknown_extra_is_named_with_those_that_exist() -> None:
    with pytest.raises(ProjectError, match="commit c defines no extra fsdp; it defines ray, ring-flash-attn"):
        check_extras(PROJECT, ["ray", "fsdp"], "c")


def test_a_project_without_extras_says_none() -> None:
    with pytest.raises(ProjectError, match="it defines none"):
        check_extras({}, ["fsdp"], "c")


def test_computed_extras_are_left_to_uv() -> None:
    assert check_extras({"project": {"dynamic": ["optional-dependencies"]}}, ["fsdp"], "c") == ["fsdp"]


def test_a_project_without_a_build_system_is_built_as_pip_would() -> None:
    assert build_requirements(PROJECT) == ["setuptools>=64", "wheel"]
    assert build_requirements({}) == ["setuptools>=40.8.0"]
