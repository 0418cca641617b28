# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that mount one folder: it is written once, and who does not see it is named before anything is built."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from support.small_fleet import SmallFleet, changed

from tools.hosts.bed import SHARED, Bed

ROOT = f"{SHARED}/axolotl"
BUILD = "Check out the commit, install the packages and complete the release"


@pytest.fixture
def fleet(bed: Bed, small_fleet: Callable[..., SmallFleet]) -> Iterator[SmallFleet]:
    yield small_fleet(axolotl_root=ROOT, axolotl_storage="shared")
    bed.execute("host0", "rm", "--recursive", "--force", ROOT)


def storage_errors(fleet: SmallFleet) -> dict[str, list[str]]:
    findings = fleet.artifact()["findings"]
    return {finding["id"]: finding["hosts"] for finding in findings if finding["severity"] == "error"}


def test_one_host_writes_and_all_see_it(bed: Bed, fleet: SmallFleet) -> None:
    assert changed(fleet.provision("--check")) > 0
    assert bed.execute("host0", "find", SHARED, "-mindepth", "1") == ""
    said = fleet.provision()
    assert re.findall(rf"TASK \[.*{BUILD}\] \*+\n((?:\w+: \[\w+\]\n)+)", said) == ["changed: [host0]\n"]
    release = bed.execute("host0", "readlink", f"{ROOT}/current")
    for host in fleet.names:
        assert bed.execute(host, "readlink", f"{ROOT}/current") == release
        assert bed.execute(host, "find", ROOT, "-not", "-user", "train") == ""
    assert changed(fleet.provision()) == 0


def test_a_host_without_the_storage_is_named_and_nothing_is_built(bed: Bed, fleet: SmallFleet) -> None:
    bed.execute("host2", "mount", "-t", "tmpfs", "tmpfs", SHARED)
    try:
        assert fleet.run("provision").returncode != 0
        assert bed.execute("host2", "find", SHARED, "-mindepth", "1") == ""
    finally:
        bed.execute("host2", "umount", SHARED)
    assert storage_errors(fleet) == {"storage_not_shared": ["host2"]}
    assert bed.execute("host0", "find", ROOT, "-mindepth", "1") == ""


def test_hosts_that_would_overwrite_each_other_are_named(bed: Bed, fleet: SmallFleet) -> None:
    (fleet.folder / "hosts.yml").write_text(
        (fleet.folder / "hosts.yml").read_text().replace("axolotl_storage: shared", "axolotl_storage: local")
    )
    assert fleet.run("provision").returncode != 0
    assert storage_errors(fleet) == {"storage_is_shared": ["host1", "host2"]}
    assert bed.execute("host0", "find", ROOT, "-mindepth", "1") == ""
