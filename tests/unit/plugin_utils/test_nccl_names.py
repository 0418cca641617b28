# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of names mean what they mean to NCCL."""

from __future__ import annotations

import pytest

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.nccl_names import NameList


@pytest.mark.parametrize(
    ("text", "taken", "left"),
    [
        ("mlx5_1", ["mlx5_1", "mlx5_10"], ["mlx5_0", "mlx4_1"]),
        ("=mlx5_1", ["mlx5_1"], ["mlx5_10", "mlx5_"]),
        ("=mlx5_0,mlx5_1", ["mlx5_0", "mlx5_1"], ["mlx5_2"]),
        ("^mlx5_1", ["mlx5_0"], ["mlx5_1", "mlx5_10"]),
        ("^=mlx5_1", ["mlx5_0", "mlx5_10"], ["mlx5_1"]),
        ("^docker,lo", ["eth0"], ["docker0", "lo"]),
        ("ib,eth", ["ib0", "eth1"], ["lo"]),
        ("=ib0,,", ["ib0"], [""]),
        ("", ["ib0", "lo"], []),
        ("^", [], ["ib0"]),
        ("=", ["ib0"], []),
        # The signs are of the whole list; one further on is part of a name.
        ("=ib0,=ib1", ["ib0"], ["ib1"]),
        ("==ib0", [], ["ib0"]),
    ],
)
def test_names(text: str, taken: list[str], left: list[str]) -> None:
    names = NameList.parse(text)
    assert [name for name in taken if not names.matches(name)] == []
    assert [name for name in left if names.matches(name)] == []


@pytest.mark.parametrize(
    ("text", "taken", "left"),
    [
        ("=mlx5_0:1", [("mlx5_0", 1)], [("mlx5_0", 2), ("mlx5_1", 1)]),
        ("=mlx5_0:1,mlx5_1", [("mlx5_0", 1), ("mlx5_1", 1), ("mlx5_1", 2)], [("mlx5_0", 2)]),
        ("mlx5:2", [("mlx5_0", 2), ("mlx5_7", 2)], [("mlx5_0", 1)]),
        ("^mlx5_0:1", [("mlx5_0", 2)], [("mlx5_0", 1)]),
        ("=mlx5_0:-1", [("mlx5_0", 1), ("mlx5_0", 2)], []),
        ("=mlx5_0:x", [], [("mlx5_0", 1)]),
    ],
)
def test_ports(text: str, taken: list[tuple[str, int]], left: list[tuple[str, int]]) -> None:
    names = NameList.parse(text)
    assert [port for port in taken if not names.matches(*port)] == []
    assert [port for port in left if names.matches(*port)] == []


def test_only_an_exact_list_names_each_that_must_be_there() -> None:
    assert NameList.parse("=mlx5_0").names_each
    assert not NameList.parse("mlx5_0").names_each
    assert not NameList.parse("^=mlx5_0").names_each
    assert NameList.of(["mlx5_0", "mlx5_1:2"]) == NameList((("mlx5_0", None), ("mlx5_1", 2)), exact=True, exclude=False)
