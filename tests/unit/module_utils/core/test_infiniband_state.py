# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left to do for a stack, and what must not be done, with the role's own names for every system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import infiniband_state as state
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.operating_system import (
    OperatingSystem,
    read_os_release,
)

ROLE = Path(__file__).resolve().parents[4] / "roles/infiniband"


def names_of() -> dict[str, dict[str, Any]]:
    """The role's data by family, as its main.yml puts it together."""
    read = {path.stem: yaml.safe_load(path.read_text()) for path in (ROLE / "vars/main").glob("*.yml")}
    debian, ubuntu = read["debian"]["_infiniband_debian"], read["ubuntu"]["_infiniband_ubuntu_differs"]
    families = {"debian": debian, "ubuntu": {**debian, **ubuntu}, "redhat": read["redhat"]["_infiniband_redhat"]}
    assert set(read["main"]["_infiniband_systems"]) == set(families)
    return families


NAMES = names_of()
DEBIAN = NAMES["debian"]
OFFERED = {"doca-ofed": ["3.2.1-1"], "infiniband-diags": ["2510-1"], "rdma-core": ["2510-1"]}

SUPPORTED = [
    ("debian", "12", "ibverbs-utils", "linux-headers-K"),
    ("debian", "13", "ibverbs-utils", "linux-headers-K"),
    *(("ubuntu", version, "ibverbs-utils", "linux-headers-K") for version in ("22.04", "24.04", "26.04")),
    *(
        (identity, version, "libibverbs-utils", "kernel-devel-K")
        for identity in ("rhel", "rocky", "almalinux", "centos", "ol")
        for version in ("8.10", "9.6", "10.1")
    ),
]


@pytest.mark.parametrize(("identity", "version", "utils", "headers"), SUPPORTED)
def test_every_supported_system_has_its_names(identity: str, version: str, utils: str, headers: str) -> None:
    system = read_os_release(f"ID={identity}\nVERSION_ID={version}\n")
    assert state.unknown_system(system, NAMES) == ""
    names = NAMES[system.family]
    assert {"rdma-core", "infiniband-diags", "perftest", utils} <= set(names["inbox"])
    assert state.with_kernel(names["headers"], "K") == [headers]
    # what the role installs is what tells it from the other stack, and never the other's
    assert set(names["signs_of_inbox"]) & set(names["inbox"]) == set(names["signs_of_inbox"]) - {"opensm"}
    assert state.matching(names["signs_of_doca"], names["inbox"]) == []


def test_only_ubuntu_leaves_drivers_to_another_package() -> None:
    more = {family: state.with_kernel(names["more_modules"], "6.8.0-1-aws") for family, names in NAMES.items()}
    assert more == {"debian": [], "redhat": [], "ubuntu": ["linux-modules-extra-6.8.0-1-aws"]}


def test_every_family_has_the_same_kinds_of_names() -> None:
    assert len({frozenset(names) for names in NAMES.values()}) == 1
    assert all(isinstance(item, str) for names in NAMES.values() for values in names.values() for item in values)


def test_an_unknown_system_is_told_which_are_known() -> None:
    problem = state.unknown_system(OperatingSystem("sles", "15.6", ""), NAMES)
    assert "sles 15.6" in problem
    assert "debian, redhat, ubuntu" in problem
    assert "infiniband_provider" in problem


# The other stack


@pytest.mark.parametrize(
    "package",
    ["doca-ofed", "doca-ofed-userspace", "doca-networking", "mlnx-ofed-kernel-dkms", "mlnx-tools", "ofed-scripts"],
)
def test_doca_stands_in_the_way_of_inbox(package: str) -> None:
    assert state.other_stack("inbox", DEBIAN, {package: "1", "rdma-core": "44"}, {}) == [package]


def test_a_repository_package_alone_is_no_stack() -> None:
    assert state.other_stack("inbox", DEBIAN, {"doca-host": "3.2.1", "libibverbs1": "44"}, {}) == []


def test_libraries_alone_are_no_stack() -> None:
    assert state.other_stack("doca", DEBIAN, {"libibverbs1": "44", "rdma-core": "44"}, OFFERED) == []


def test_inbox_and_mlnx_ofed_stand_in_the_way_of_doca() -> None:
    installed = {"infiniband-diags": "44.0-2", "perftest": "4.5"}
    assert state.other_stack("doca", DEBIAN, installed, OFFERED) == ["infiniband-diags", "perftest"]
    assert state.other_stack("doca", DEBIAN, {"mlnx-ofed-kernel-dkms": "24.10"}, OFFERED) == ["mlnx-ofed-kernel-dkms"]


def test_what_the_repository_offers_is_docas_own() -> None:
    """An installation that was cut off left some of its packages, and goes on."""
    assert state.other_stack("doca", DEBIAN, {"infiniband-diags": "2510-1"}, OFFERED) == []
    assert state.other_stack("doca", DEBIAN, {"doca-ofed": "3.2.0-1", "infiniband-diags": "2507-1"}, OFFERED) == []


def test_a_refusal_names_what_was_found_and_every_step() -> None:
    said = state.refusal("inbox", ["doca-ofed"], {"doca-ofed": "3.2.1-1"}, DEBIAN["uninstall_doca"])
    assert "infiniband_provider is inbox" in said
    assert "doca-ofed 3.2.1-1" in said
    assert all(step in said for step in DEBIAN["uninstall_doca"])


@pytest.mark.parametrize(
    ("present", "wanted", "refused"),
    [
        ("3.2.1-1", "3.2.0", True),
        ("3.10.0-1", "3.9.9", True),
        ("3.2.1-1", "3.2.1", False),
        ("3.2.0-1", "3.2.1", False),
        ("", "3.2.1", False),
        ("2.7.0-1", "3.2.1", False),
    ],
)
def test_only_a_downgrade_is_refused(present: str, wanted: str, refused: bool) -> None:
    installed = {"doca-ofed": present} if present else {}
    said = state.downgrade(wanted, installed, ["purge it"])
    assert bool(said) is refused
    if refused:
        assert present in said
        assert "purge it" in said


# Packages, builds, drivers


def test_what_came_from_the_repository_is_held_once() -> None:
    installed = {"doca-ofed": "3.2.1-1", "infiniband-diags": "2510-1", "rdma-core": "44", "bash": "5"}
    assert state.unheld(installed, OFFERED, []) == ["doca-ofed", "infiniband-diags"]
    assert state.unheld(installed, OFFERED, ["doca-ofed"]) == ["infiniband-diags"]


STATUS = """\
knem/1.1.4.90mlnx3, 6.8.0-40-generic, x86_64: installed
mlnx-ofed-kernel/25.10.OFED.25.10.1.2.8.1, 6.8.0-40-generic, x86_64: installed (original_module exists)
mlnx-ofed-kernel/25.10.OFED.25.10.1.2.8.1, 6.8.0-41-generic, x86_64: built
nvidia/580.65.06: added
"""


def test_dkms_status_tells_what_is_built_for_a_kernel() -> None:
    assert state.dkms_unbuilt(STATUS, "6.8.0-40-generic") == ["nvidia"]
    assert state.dkms_unbuilt(STATUS, "6.8.0-41-generic") == ["knem", "mlnx-ofed-kernel", "nvidia"]
    assert state.dkms_unbuilt("mlnx-ofed-kernel, 5.8, 5.15.0-1-generic, x86_64: installed\n", "5.15.0-1-generic") == []
    assert state.dkms_unbuilt("", "6.8.0-40-generic") == []


def test_a_driver_is_stale_when_another_would_be_loaded() -> None:
    loaded = {"mlx5_core": "AAA", "ib_core": "BBB"}
    assert state.stale_drivers(loaded, {"mlx5_core": "CCC", "ib_core": "BBB", "mlx5_ib": "DDD"}) == ["mlx5_core"]
    assert state.stale_drivers(loaded, {"mlx5_core": "AAA", "ib_core": ""}) == []
    assert state.stale_drivers({}, {"mlx5_core": "CCC"}) == []


@pytest.mark.parametrize(
    ("said", "stack"),
    [
        (None, {"name": "inbox", "version": None}),
        ("OFED-internal-25.01-0.6.0:\n", {"name": "doca", "version": "25.01-0.6.0"}),
        ("OFED-internal-25.10-1.7.1.413:\n", {"name": "doca", "version": "25.10-1.7.1.413"}),
        ("MLNX_OFED_LINUX-24.10-0.7.0.0:\n", {"name": "mlnx_ofed", "version": "24.10-0.7.0.0"}),
        ("", {"name": None, "version": None}),
        ("OFED-1.2\nx", {"name": None, "version": None}),
    ],
)
def test_a_stack_is_known_by_what_its_own_tool_says(said: str | None, stack: dict[str, str | None]) -> None:
    assert state.stack(said) == stack
