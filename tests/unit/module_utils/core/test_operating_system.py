# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""os-release as the distributions write it."""

from __future__ import annotations

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.operating_system import pretty_name, read_os_release

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n'
UBUNTU = 'NAME="Ubuntu"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\n'
ROCKY = 'NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\nPLATFORM_ID="platform:el9"\n'
ORACLE = 'NAME="Oracle Linux Server"\nID="ol"\nID_LIKE="fedora"\nVARIANT_ID="server"\nVERSION_ID="9.4"\n'
SID = 'PRETTY_NAME="Debian GNU/Linux forky/sid"\nID=debian\n'


@pytest.mark.parametrize(
    ("text", "found", "major"),
    [
        (DEBIAN, ("debian", "12", "debian"), "12"),
        (UBUNTU, ("ubuntu", "24.04", "ubuntu"), "24.04"),
        (ROCKY, ("rocky", "9.4", "redhat"), "9"),
        (ORACLE, ("ol", "9.4", "redhat"), "9"),
        (SID, ("debian", "", "debian"), ""),
        ("ID='almalinux'\nVERSION_ID='10.0'", ("almalinux", "10.0", "redhat"), "10"),
        ("ID=sles\nVERSION_ID=15.6", ("sles", "15.6", ""), "15"),
        ("", ("", "", ""), ""),
    ],
)
def test_systems_are_told(text: str, found: tuple[str, str, str], major: str) -> None:
    system = read_os_release(text)
    assert tuple(system) == found
    assert system.major == major


@pytest.mark.parametrize(("text", "name"), [(DEBIAN, "Debian GNU/Linux 12 (bookworm)"), (UBUNTU, None), ("", None)])
def test_systems_have_a_name_for_people(text: str, name: str | None) -> None:
    assert pretty_name(text) == name
