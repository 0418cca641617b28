# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hash functions that trees are digested with, by the names that users give them."""

from __future__ import annotations

import functools
import hashlib
import importlib
from typing import Any, Callable

ALGORITHMS = {"sha256": 64, "md5": 32, "blake3": 64}
"""Hexadecimal digits of each algorithm's digest."""


class AlgorithmMissing(Exception):
    """This Python lacks the hash function; the message names the remedy."""


def hash_function(algorithm: str) -> Callable[[], Any]:
    """What makes a new, empty state with `update(bytes)` and `hexdigest()`, as hashlib's have them.

    Raises:
        AlgorithmMissing: the algorithm is none of ours, or this Python can't compute it. Never another one instead.
    """
    if algorithm == "blake3":
        try:
            return importlib.import_module("blake3").blake3  # type: ignore[no-any-return]
        except (ImportError, AttributeError):
            raise AlgorithmMissing(
                "blake3 is not in this Python: install the package blake3 for it, or take sha256"
            ) from None
    if algorithm not in ALGORITHMS:
        raise AlgorithmMissing(f"{algorithm} is none of {', '.join(ALGORITHMS)}")
    # Not for security: a Python in FIPS mode refuses md5 otherwise, and people compare with md5sum.
    function = functools.partial(getattr(hashlib, algorithm), usedforsecurity=False)
    try:
        function()
    except ValueError as error:
        raise AlgorithmMissing(f"{algorithm} is switched off in this Python ({error}): take sha256") from None
    return function
