# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lock is read back exactly, and every way in which an installation differs from it has a name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.lock_file import (
    LockFileError,
    compare_installed,
    header,
    inputs_of,
    parse_lock,
)

LOCK = """\
# The exact packages.
# inputs: {"commit": "c"}
--index-url https://packages.example/simple
absl-py==2.5.1 \\
    --hash=sha256:286e71c8 \\
    --hash=sha256:721200f2
    # via tensorboard
Ruamel.YAML[jinja2]==0.18.0 ; python_version >= "3.9" \\
    --hash=sha256:00
torch==2.13.0+cpu --hash=sha256:01  # from a folder
tool @ git+https://git.example/tool@0123456789
"""

packages = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(["1", "2"]))


def test_names_are_normalised_and_hashes_left_out() -> None:
    assert parse_lock(LOCK) == {
        "absl-py": "2.5.1",
        "ruamel-yaml": "0.18.0",
        "torch": "2.13.0+cpu",
        "tool": "git+https://git.example/tool@0123456789",
    }


@pytest.mark.parametrize("line", ["torch>=2.11", "torch", "./wheels/torch.whl"])
def test_a_line_that_pins_nothing_is_an_error(line: str) -> None:
    with pytest.raises(LockFileError, match="pins no exact version"):
        parse_lock(f"absl-py==2.5.1\n{line}\n")


def test_the_header_gives_its_inputs_back() -> None:
    inputs = {"commit": "c", "extras": ["ray"], "requirements": ["torch==2.13.0"]}
    assert inputs_of(header(inputs) + "absl-py==2.5.1\n") == inputs


@pytest.mark.parametrize("text", ["absl-py==2.5.1\n", "# inputs: {torn", "# inputs: []\n", ""])
def test_a_lock_of_other_origin_has_no_inputs(text: str) -> None:
    assert inputs_of(text) is None


def test_each_kind_of_difference_is_named() -> None:
    difference = compare_installed({"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"})
    assert difference.missing == {"c": "1"}
    assert difference.extra == {"d": "1"}
    assert difference.different == {"b": ("1", "2")}


def test_a_direct_reference_needs_to_be_there_in_any_version() -> None:
    assert not compare_installed({"tool": "git+https://git.example/tool@01"}, {"tool": "3.1"})
    assert compare_installed({"tool": "git+https://git.example/tool@01"}, {}).missing


@given(packages, packages)
def test_there_is_a_difference_exactly_when_the_sets_differ(locked: dict[str, str], installed: dict[str, str]) -> None:
    assert bool(compare_installed(locked, installed)) == (locked != installed)
