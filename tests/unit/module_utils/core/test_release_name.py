# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release's name follows from what is in it, and from nothing else."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.release_name import (
    ReleaseNameError,
    full_commit,
    lock_key,
    release_id,
)

COMMIT = "067b021c8b87a9e5e380b9173c704cf7340e30f5"
RELEASE = {
    "commit": COMMIT,
    "lock_sha256": "a" * 64,
    "extras": ["deepspeed", "ray"],
    "python_version": "3.12",
    "python_platform": "x86_64-manylinux_2_28",
    "torch_backend": "cu130",
}
LOCK = {**{name: value for name, value in RELEASE.items() if name != "lock_sha256"}, "requirements": ["torch==2.13.0"]}
CHANGES = {
    "commit": COMMIT[::-1],
    "extras": ["ray"],
    "python_version": "3.11",
    "python_platform": "aarch64-manylinux_2_28",
    "torch_backend": "cpu",
}


def test_a_name_is_the_same_tomorrow() -> None:
    """Releases on nodes are found again by name, so the way it is derived may never change."""
    assert release_id(**RELEASE) == "067b021c8b87-89362fa3588e"
    assert lock_key(**LOCK) == "067b021c8b87-py3.12-f39da8ed52ad"


@pytest.mark.parametrize("name", [*CHANGES, "lock_sha256"])
def test_every_input_of_a_release_is_in_its_name(name: str) -> None:
    assert release_id(**{**RELEASE, name: CHANGES.get(name, "b" * 64)}) != release_id(**RELEASE)


@pytest.mark.parametrize("name", [*CHANGES, "requirements"])
def test_every_input_of_a_lock_is_in_its_key(name: str) -> None:
    assert lock_key(**{**LOCK, name: CHANGES.get(name, ["torch==2.12.0"])}) != lock_key(**LOCK)


@given(st.permutations(["ring-flash-attn", "ray", "optimizers"]))
def test_neither_order_nor_spelling_of_extras_counts(extras: list[str]) -> None:
    spelled = [extra.upper().replace("-", "_") for extra in extras]
    assert release_id(**{**RELEASE, "extras": spelled}) == release_id(**{**RELEASE, "extras": sorted(extras)})


@given(st.text(max_size=20), st.text(max_size=20), st.lists(st.text(max_size=10), max_size=3))
def test_any_input_makes_a_plain_file_name(platform: str, backend: str, requirements: list[str]) -> None:
    key = lock_key(**{**LOCK, "python_platform": platform, "torch_backend": backend, "requirements": requirements})
    assert re.fullmatch(r"[0-9a-f]{12}-py3\.12-[0-9a-f]{12}", key)


def test_a_python_version_is_no_path() -> None:
    with pytest.raises(ReleaseNameError, match="axolotl_python_version"):
        lock_key(**{**LOCK, "python_version": "../3.12"})


@pytest.mark.parametrize("commit", ["main", "067b021", COMMIT.upper(), COMMIT + "\n", COMMIT + "0", ""])
def test_only_a_full_commit_names_a_release(commit: str) -> None:
    with pytest.raises(ReleaseNameError, match=r"40 lower-case hex digits.*axolotl_commit"):
        full_commit(commit)


def test_a_lock_digest_must_be_one() -> None:
    with pytest.raises(ReleaseNameError, match="SHA-256"):
        release_id(**{**RELEASE, "lock_sha256": "a" * 63})
