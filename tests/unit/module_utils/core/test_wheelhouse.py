# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wheels are fetched for the nodes' platform, and a wheelhouse is complete or refused."""

from __future__ import annotations

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.wheelhouse import (
    WheelhouseError,
    parse_wheel,
    pip_indexes,
    pip_platforms,
    requirements,
)

ALPHA = "alpha-1.0-py3-none-any.whl"
TORCH = "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"


def test_a_platform_takes_all_older_ones_under_both_of_their_names() -> None:
    names = pip_platforms("x86_64-manylinux_2_28")
    assert names[0] == "manylinux_2_28_x86_64"
    assert names[-1] == "linux_x86_64"
    assert {"manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64"} <= set(names)
    assert "manylinux_2_29_x86_64" not in names
    assert pip_platforms("aarch64-manylinux2014")[:2] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64"]
    assert pip_platforms("linux") == pip_platforms("x86_64-unknown-linux-gnu") == names


@pytest.mark.parametrize("platform", ["windows", "x86_64-manylinux", "riscv64-manylinux_2_31", ""])
def test_a_platform_that_pip_can_not_be_told_is_named(platform: str) -> None:
    with pytest.raises(WheelhouseError, match="axolotl_python_platform"):
        pip_platforms(platform)


def test_what_uv_alone_was_told_reaches_pip() -> None:
    environment = {"UV_INDEX": "inner=https://a.invalid/simple https://b.invalid/?x=1", "UV_FIND_LINKS": "/w,/x"}
    assert pip_indexes(environment, "") == [
        *("--extra-index-url", "https://a.invalid/simple"),
        *("--extra-index-url", "https://b.invalid/?x=1"),
        *("--find-links", "/w"),
        *("--find-links", "/x"),
    ]
    assert pip_indexes({}, "cu130") == ["--extra-index-url", "https://download.pytorch.org/whl/cu130"]
    assert pip_indexes({"HOME": "/root"}, "") == []


def test_a_wheels_name_is_taken_apart() -> None:
    assert parse_wheel("Beta_Tools-2.0-1-cp311-cp311-linux_x86_64.whl")[:2] == ("beta-tools", "2.0")
    assert parse_wheel(ALPHA).any_platform
    assert not parse_wheel(TORCH).any_platform
    for name in ("alpha-1.0.tar.gz", "alpha.whl", "a-b-c-d-e-f-g.whl"):
        with pytest.raises(WheelhouseError, match=name):
            parse_wheel(name)


def test_each_package_is_named_by_the_digest_of_its_wheel() -> None:
    locked = {"torch": "2.13.0+cpu", "alpha": "1.0"}
    assert requirements(locked, {TORCH: "bb", ALPHA: "aa"}) == (
        "alpha==1.0 --hash=sha256:aa\ntorch==2.13.0+cpu --hash=sha256:bb\n"
    )


def test_a_direct_reference_becomes_its_wheels_version() -> None:
    assert requirements({"alpha": "https://a.invalid/alpha.whl"}, {ALPHA: "aa"}) == "alpha==1.0 --hash=sha256:aa\n"


@pytest.mark.parametrize(
    ("locked", "wheels", "words"),
    [
        ({"alpha": "1.0", "beta": "2.0"}, [ALPHA], "beta 2.0 needs one wheel, found none"),
        ({"alpha": "1.0"}, [ALPHA, "alpha-1.0-cp311-cp311-linux_x86_64.whl"], "alpha 1.0 needs one wheel, found alpha"),
        ({"alpha": "1.1"}, [ALPHA], "alpha is locked at 1.1"),
    ],
)
def test_an_incomplete_wheelhouse_is_refused(locked: dict[str, str], wheels: list[str], words: str) -> None:
    with pytest.raises(WheelhouseError, match=words):
        requirements(locked, dict.fromkeys(wheels, "00"))
