# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hash function is the one that was asked for, or there is an error."""

from __future__ import annotations

import hashlib
import sys

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.digest_algorithms import (
    ALGORITHMS,
    AlgorithmMissing,
    hash_function,
)

# Of the three bytes "abc", from RFC 1321, FIPS 180-4 and the test vectors of BLAKE3.
KNOWN = {
    "md5": "900150983cd24fb0d6963f7d28e17f72",
    "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    "blake3": "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
}


@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_each_is_the_one_of_its_name(algorithm: str) -> None:
    state = hash_function(algorithm)()
    state.update(b"a")
    state.update(memoryview(b"bc"))
    assert state.hexdigest() == KNOWN[algorithm]
    assert len(KNOWN[algorithm]) == ALGORITHMS[algorithm]


def test_a_missing_blake3_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "blake3", None)
    with pytest.raises(AlgorithmMissing, match="install the package blake3"):
        hash_function("blake3")


def test_something_else_of_that_name_is_no_blake3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "blake3", sys)
    with pytest.raises(AlgorithmMissing):
        hash_function("blake3")


def test_what_the_python_refuses_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_options: bool) -> None:
        raise ValueError("[digital envelope routines] unsupported")

    monkeypatch.setattr(hashlib, "md5", refused)
    with pytest.raises(AlgorithmMissing, match="md5 is switched off"):
        hash_function("md5")


def test_no_other_attribute_of_hashlib_is_an_algorithm() -> None:
    with pytest.raises(AlgorithmMissing, match="new is none of sha256, md5, blake3"):
        hash_function("new")
