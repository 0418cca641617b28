# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's libraries say their versions as numbers, whose form has changed over time."""

from __future__ import annotations

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import library_versions


@pytest.mark.parametrize(
    ("library", "number", "version"),
    [
        ("nccl", 22809, "2.28.9"),
        ("nccl", 20905, "2.9.5"),
        ("nccl", 2804, "2.8.4"),
        ("nccl", 2708, "2.7.8"),
        ("cudnn", 91002, "9.10.2"),
        ("cudnn", 90000, "9.0.0"),
        ("cudnn", 8905, "8.9.5"),
        ("cuda_runtime", 13000, "13.0"),
        ("cuda_runtime", 12080, "12.8"),
        ("cuda_runtime", 11080, "11.8"),
    ],
)
def test_a_number_is_a_version(library: str, number: int, version: str) -> None:
    assert getattr(library_versions, library)(number) == version


@pytest.mark.parametrize(
    ("text", "cuda"),
    [
        (
            "from typing import Optional\n\n__version__ = '2.13.0+cu130'\ncuda: Optional[str] = '13.0'\nhip = None\n",
            "13.0",
        ),
        ("__version__ = '1.13.1'\ncuda = '11.7'\n", "11.7"),
        ("cuda: Optional[str] = None\nhip: Optional[str] = '6.4'\n", None),
        ("cuda_version = '1.0'\n", None),
        ("", None),
    ],
)
def test_torch_says_for_which_cuda_it_was_built(text: str, cuda: str | None) -> None:
    assert library_versions.torch_cuda(text) == cuda


@pytest.mark.parametrize(
    ("version", "parts"), [("2.30.7", (2, 30, 7)), ("580", (580,)), ("", ()), (None, ()), ("2.x", ()), ("1" * 5000, ())]
)
def test_versions_compare_as_numbers(version: str | None, parts: tuple[int, ...]) -> None:
    assert library_versions.parts(version) == parts
