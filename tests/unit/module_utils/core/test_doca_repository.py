# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where DOCA lies for each operating system, and which package version is the wanted one."""

from __future__ import annotations

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import doca_repository as dr
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.operating_system import (
    OperatingSystem,
    read_os_release,
)

BASE = "https://linux.mellanox.com/public/repo/doca"


def system(identity: str, version: str) -> OperatingSystem:
    return read_os_release(f'ID={identity}\nVERSION_ID="{version}"\n')


@pytest.mark.parametrize(
    ("identity", "version", "doca", "folder"),
    [
        ("ubuntu", "22.04", "2.9.5", "ubuntu22.04"),
        ("ubuntu", "22.04", "3.2.1", "ubuntu22.04"),
        ("ubuntu", "24.04", "3.1.0", "ubuntu24.04"),
        ("ubuntu", "24.04", "3.3.0", "ubuntu24.04"),
        ("ubuntu", "26.04", "3.4.0", "ubuntu26.04"),
        ("debian", "12", "2.9.0", "debian12.5"),
        ("debian", "12", "3.2.1", "debian12"),
        ("debian", "13", "3.2.0", "debian13"),
        # one folder for each minor release while drivers were built for its kernels, one for all of them since
        ("rhel", "9.4", "3.1.0", "rhel9.4"),
        ("rhel", "9.6", "3.2.1", "rhel9"),
        ("rocky", "9.8", "3.2.3", "rhel9"),
        ("almalinux", "8.10", "3.3.0", "rhel8"),
        ("almalinux", "10.2", "3.2.0", "rhel10"),
        ("rocky", "8.10", "2.9.5", "rhel8.10"),
    ],
)
def test_each_system_has_its_folder(identity: str, version: str, doca: str, folder: str) -> None:
    assert dr.url(BASE, doca, system(identity, version), "x86_64") == f"{BASE}/{doca}/{folder}/x86_64/"


def test_arm_servers_and_mirrors() -> None:
    found = dr.url("http://mirror/doca/", "3.2.1", system("ubuntu", "24.04"), "aarch64")
    assert found == "http://mirror/doca/3.2.1/ubuntu24.04/arm64-sbsa/"


@pytest.mark.parametrize(
    ("identity", "version", "doca"),
    [
        ("ubuntu", "20.04", "3.2.1"),
        ("ubuntu", "26.04", "3.2.1"),
        ("debian", "11", "3.2.1"),
        ("debian", "13", "3.1.0"),
        ("debian", "", "3.2.1"),
        ("rocky", "10.0", "3.1.0"),
        # kernels of their own
        ("centos", "9", "3.2.1"),
        ("ol", "9.4", "3.2.1"),
        ("fedora", "42", "3.2.1"),
    ],
)
def test_what_has_no_repository_is_told_what_has(identity: str, version: str, doca: str) -> None:
    with pytest.raises(dr.DocaError, match=f"DOCA {doca} has no repository for .*; it has for .*24.04"):
        dr.url(BASE, doca, system(identity, version), "x86_64")


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(dr.DocaError, match="no repository for ppc64le; it has for x86_64, aarch64"):
        dr.url(BASE, "3.2.1", system("ubuntu", "24.04"), "ppc64le")


@pytest.mark.parametrize("version", ["3.2", "3.2.1-1", "latest", "3.x.1", " 3.2.1", "2.8.0", "3.2.1\n"])
def test_a_version_is_exact_and_not_too_old(version: str) -> None:
    with pytest.raises(dr.DocaError):
        dr.parse_version(version)


def test_dkms_builds_the_drivers_except_on_older_rhel() -> None:
    assert dr.uses_dkms("3.1.0", system("ubuntu", "24.04"))
    assert dr.uses_dkms("3.2.0", system("rocky", "9.6"))
    assert not dr.uses_dkms("3.1.0", system("rocky", "9.6"))


@pytest.mark.parametrize("offered", ["3.2.1", "3.2.1-0.1.8", "1:3.2.1-044413", "0:3.2.1-1.el9"])
def test_a_revision_and_an_epoch_are_the_packagers(offered: str) -> None:
    assert dr.matching("3.2.1", ["3.2.0-0.1.8", offered, "3.2.10-0.1.8", "13.2.1-1"]) == offered


def test_a_version_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(dr.DocaError, match=r"doca-ofed 3\.2\.1 is not in the repository; it has 3\.2\.0-1, 3\.2\.10-1"):
        dr.matching("3.2.1", ["3.2.10-1", "3.2.0-1"])
    with pytest.raises(dr.DocaError, match="it has none"):
        dr.matching("3.2.1", [])
    with pytest.raises(dr.DocaError, match="more than once"):
        dr.matching("3.2.1", ["3.2.1-1", "3.2.1-2"])
