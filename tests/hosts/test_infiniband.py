# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""InfiniBand on real hosts: the distribution's stack from Debian, DOCA-OFED from a signed stand-in of its repository.

Each host begins bare. host0 gets the distribution's stack, host1 DOCA; what must be refused is tried on both.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import doca, doca_rpm, fabric
from support.fleet import Fleet, Outcome

from tools.hosts.bed import Bed
from tools.hosts.inventory import document

PLAYBOOK = str(Path(__file__).with_name("infiniband.yml"))
TOOLS = ["ibstat", "ibhosts", "ibqueryerrors", "perfquery", "ib_write_bw"]
NODE = {"root": "/home/admin/axolotl", "paths": {"runs": "/home/admin/axolotl/runs"}}
MODULES = ["mlx5_core", "mlx5_ib", "ib_uverbs", "ib_umad", "rdma_cm"]
PATHS = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"


class Role:
    """The role on one host of the bed."""

    def __init__(self, bed: Bed, folder: Path) -> None:
        self._bed = bed
        self._folder = folder

    def run(self, hosts: str, *options: str, **wanted: Any) -> Outcome:
        """Provide `wanted` (the plan's part infiniband, with or without its defaults) on hosts, named with commas."""
        defaults = {"provider": "none", "doca_version": "", "doca_key": "", "doca_repository": "", "reboot": False}
        inventory = self._folder / "hosts.yml"
        inventory.write_text(yaml.safe_dump(document(self._bed, hosts.split(","))))
        variables = {"infiniband": {**defaults, **wanted}, "node": NODE}
        return Fleet(self._folder).run("infiniband", *options, inventory=inventory, playbook=PLAYBOOK, **variables)


@pytest.fixture
def role(bare_hosts: Bed, tmp_path: Path) -> Role:
    return Role(bare_hosts, tmp_path)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("keys")
    return {name: doca.key(folder, name) for name in ("right", "wrong")}


@pytest.fixture(scope="module")
def repository(
    bed: Bed, keys: dict[str, tuple[Path, str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[doca.Server]:
    """DOCA 3.2.0 and 3.2.1, and a 3.2.2 whose folder holds something else."""
    base = tmp_path_factory.mktemp("doca")
    kernel = bed.execute("host1", "uname", "-r")
    for release, version in (("3.2.0", "3.2.0"), ("3.2.1", "3.2.1"), ("3.2.2", "3.2.1")):
        doca.publish(base, release, keys["right"][0], doca.packages(version, kernel))
    route = json.loads(
        subprocess.run(["ip", "-json", "route", "get", bed.hosts["host1"]], check=True, capture_output=True).stdout
    )
    with doca.served(base, route[0]["prefsrc"]) as server:
        yield server


@pytest.fixture
def wanted(repository: doca.Server, keys: dict[str, tuple[Path, str]], tmp_path: Path) -> dict[str, Any]:
    """What the plan says of DOCA 3.2.1 with the right key."""
    path = tmp_path / "key.asc"
    path.write_text(keys["right"][1])
    return {"provider": "doca", "doca_version": "3.2.1", "doca_repository": repository.url, "doca_key": str(path)}


def everything(bed: Bed, host: str) -> str:
    """Packages with their states, and every file in the folders where the role or a package manager writes."""
    folders = "/etc/apt /etc/modules-load.d /etc/security /etc/systemd/system /usr/sbin /var/lib/apt/lists"
    packages = "dpkg-query --show --showformat='${Package} ${Version} ${Status}\\n'"
    script = f"{packages}; find {folders} -type f -exec cksum {{}} +"
    return bed.execute(host, "sh", "-c", script)


def refused(role: Role, bed: Bed, host: str, said: list[str], **wanted: Any) -> None:
    """The node is left exactly as it was, and the message says what is wrong."""
    before = everything(bed, host)
    outcome = role.run(host, **wanted)
    message = " ".join(outcome.stdout.split())
    assert (outcome.rc != 0, outcome.changed) == (True, 0), outcome.stdout[-3000:]
    assert [part for part in said if part not in message] == [], outcome.stdout[-3000:]
    assert everything(bed, host) == before


def starts(bed: Bed) -> int:
    """How often openibd was started on host1."""
    return len(bed.execute("host1", "sh", "-c", f"cat {doca.STARTS} 2>/dev/null || true").splitlines())


# The distribution's stack, on host0


def test_a_check_says_what_is_missing_and_changes_nothing(role: Role, bed: Bed) -> None:
    before = everything(bed, "host0")
    outcome = role.run("host0", "--check", "--diff", provider="inbox")
    assert outcome.rc == 0, outcome.stdout[-3000:]
    assert outcome.changed > 0
    assert "install or build infiniband-diags" in " ".join(outcome.stdout.split())
    assert everything(bed, "host0") == before


def test_one_run_brings_the_distributions_stack(role: Role, bed: Bed) -> None:
    outcome = role.run("host0,host2", provider="inbox")
    assert outcome.rc == 0, outcome.stdout[-3000:]
    for tool in TOOLS:
        assert bed.execute("host0", "env", PATHS, "which", tool)
    assert "Version: " in bed.execute("host0", "sh", "-c", "ib_write_bw --version || true")
    assert bed.execute("host0", "cat", "/etc/modules-load.d/gpufleet-infiniband.conf").splitlines()[1:] == MODULES


def test_logins_and_managers_of_accounts_may_lock_memory(bed: Bed) -> None:
    """What systemd makes of the drop-in; that root of a container can't raise a hard limit is no matter of ours."""
    assert bed.execute("host0", "systemctl", "show", "-P", "LimitMEMLOCK", "user@1000.service") == "infinity"
    limits = bed.execute("host0", "cat", "/etc/security/limits.d/90-gpufleet-memlock.conf").splitlines()
    assert [line.split() for line in limits[1:]] == [[who, "-", "memlock", "unlimited"] for who in ("*", "root")]


def test_a_second_run_changes_nothing_and_needs_no_network(role: Role, bed: Bed) -> None:
    bed.execute("host0", "sh", "-c", "mv /etc/apt/sources.list /etc/apt/sources.list.away")
    try:
        before = everything(bed, "host0")
        outcome = role.run("host0", provider="inbox")
        assert (outcome.rc, outcome.changed) == (0, 0), outcome.stdout[-3000:]
        assert everything(bed, "host0") == before
    finally:
        bed.execute("host0", "sh", "-c", "mv /etc/apt/sources.list.away /etc/apt/sources.list")


def test_doca_is_refused_where_the_distributions_stack_is(role: Role, bed: Bed, wanted: dict[str, Any]) -> None:
    said = ["infiniband_provider is doca", "infiniband-diags 44.0-2", "apt-get purge", "reboot", "provision again"]
    refused(role, bed, "host0", said, **wanted)


def test_its_tools_see_the_fabric(bed: Bed) -> None:
    """A simulated one: the adapter is the only thing that these hosts lack."""
    with fabric.simulated(bed, ["host0", "host2"]) as sim:
        for host in sim.hosts:
            sim.wait_active(host)
        assert "Link layer: IB" in sim.run("host2", "ibstat")
        assert [line.split('"')[1] for line in sim.run("host2", "ibhosts").splitlines()] == ["host0", "host2"]
        assert "3 nodes checked, 0 bad nodes found" in sim.run("host0", "ibqueryerrors")
        assert "SymbolErrorCounter:" in sim.run("host2", "perfquery")
        sim.show("host2")
        port = "/sys/class/infiniband/ibsim0/ports/1"
        assert bed.execute("host2", "cat", f"{port}/state", f"{port}/link_layer").split() == [
            "4:",
            "ACTIVE",
            "InfiniBand",
        ]
        sim.unplug("host2")
        assert "Physical state: Polling" in sim.run("host2", "ibstat")
        sim.show("host2")
        assert bed.execute("host2", "cat", f"{port}/state") == "1: DOWN"
        sim.plug("host2")
        sim.wait_active("host2")
    assert "infiniband" not in bed.execute("host2", "ls", "/sys/class").split()


# Reboots, on host0 and host2: a container can't boot its kernel anew, so what tells kernel and drivers apart is planted

PLANTED = "/var/lib/planted"
BOOT = f"""cp {PLANTED}/installed {PLANTED}/modules/mlx5_core/srcversion
cat /proc/sys/kernel/random/uuid >{PLANTED}/boot_id
date +%s.%N >>{PLANTED}/boots"""
SHUTDOWN = f"""#!/bin/sh
# After three seconds, what can be seen of a boot: the installed drivers are loaded, and the boot id is another one.
date +%s.%N >>{PLANTED}/boots
[ -e {PLANTED}/stuck ] || exec systemd-run --quiet --on-active=3 --timer-property=AccuracySec=100ms sh -c '{BOOT}'
"""
MODINFO = f"""#!/bin/sh
[ "$4 $5" = "srcversion mlx5_core" ] && cat {PLANTED}/installed
"""


def plant_new_drivers(bed: Bed, host: str) -> None:
    """An mlx5_core is loaded, and another one lies on disk."""
    script = f"""set -e
        rm -rf {PLANTED}/boots {PLANTED}/stuck
        mkdir -p {PLANTED}/modules/mlx5_core
        echo OLD >{PLANTED}/modules/mlx5_core/srcversion
        echo NEW >{PLANTED}/installed
        mountpoint -q /sys/module || mount --bind {PLANTED}/modules /sys/module
        cat /proc/sys/kernel/random/uuid >{PLANTED}/boot_id
        mount --bind {PLANTED}/boot_id /proc/sys/kernel/random/boot_id
        rm -f /usr/sbin/shutdown
        printf %s "$1" >/usr/sbin/shutdown && printf %s "$2" >/usr/sbin/modinfo
        chmod +x /usr/sbin/shutdown /usr/sbin/modinfo"""
    bed.execute(host, "sh", "-c", script, "sh", SHUTDOWN, MODINFO)


def boots(bed: Bed, *hosts: str) -> list[float]:
    """When each host went down and, if it did, came back."""
    script = f"cat {PLANTED}/boots 2>/dev/null || true"
    return [float(line) for host in hosts for line in bed.execute(host, "sh", "-c", script).split()]


def test_no_node_is_rebooted_unasked(role: Role, bed: Bed) -> None:
    for host in ("host0", "host2"):
        plant_new_drivers(bed, host)
    outcome = role.run("host0,host2", provider="inbox")
    assert (outcome.rc, outcome.changed) == (0, 0), outcome.stdout[-3000:]
    assert boots(bed, "host0", "host2") == []


def test_no_further_node_is_rebooted_when_one_does_not_come_back(role: Role, bed: Bed) -> None:
    bed.execute("host0", "touch", f"{PLANTED}/stuck")
    outcome = role.run("host0,host2", "-e infiniband_reboot_timeout=5", provider="inbox", reboot=True)
    assert outcome.rc != 0
    assert (len(boots(bed, "host0")), boots(bed, "host2")) == (1, [])
    said = " ".join(outcome.stdout.split())
    assert said.count("still needs a reboot: the loaded mlx5_core is not the one that is installed") >= 2


def test_nodes_are_rebooted_one_after_the_other(role: Role, bed: Bed) -> None:
    for host in ("host0", "host2"):
        plant_new_drivers(bed, host)
    outcome = role.run("host0,host2", provider="inbox", reboot=True)
    assert outcome.rc == 0, outcome.stdout[-5000:]
    times = boots(bed, "host0", "host2")
    assert len(times) == 4
    assert times == sorted(times), "host0 is back before host2 goes down"
    outcome = role.run("host0,host2", provider="inbox", reboot=True)
    assert (outcome.rc, outcome.changed) == (0, 0), outcome.stdout[-3000:]
    assert len(boots(bed, "host0", "host2")) == 4


# DOCA-OFED, on host1


def test_a_repository_with_another_key_is_refused(
    role: Role, bed: Bed, wanted: dict[str, Any], keys: dict[str, tuple[Path, str]]
) -> None:
    Path(wanted["doca_key"]).write_text(keys["wrong"][1])
    refused(role, bed, "host1", ["infiniband_doca_key", "NO_PUBKEY"], **wanted)


def test_a_repository_without_the_version_is_refused(role: Role, bed: Bed, wanted: dict[str, Any]) -> None:
    said = ["doca-ofed 3.2.2 is not in the repository; it has 3.2.1-0.1.8", "correct infiniband_doca_version"]
    refused(role, bed, "host1", said, **{**wanted, "doca_version": "3.2.2"})


def test_a_version_without_a_repository_is_refused(role: Role, bed: Bed, wanted: dict[str, Any]) -> None:
    said = ["3.2.9/debian12/x86_64/ can't be used", "does not have a Release file", "infiniband_doca_version"]
    refused(role, bed, "host1", said, **{**wanted, "doca_version": "3.2.9"})


def test_doca_is_installed_in_its_version_built_held_and_started(role: Role, bed: Bed, wanted: dict[str, Any]) -> None:
    outcome = role.run("host1", **{**wanted, "doca_version": "3.2.0"})
    assert outcome.rc == 0, outcome.stdout[-3000:]
    kernel = bed.execute("host1", "uname", "-r")
    assert bed.execute("host1", "dpkg-query", "--show", "--showformat=${Version}", "doca-ofed") == "3.2.0-0.1.8"
    assert f"{kernel}, x86_64: installed" in bed.execute("host1", "dkms", "status")
    held = set(bed.execute("host1", "apt-mark", "showhold").split())
    assert {"doca-ofed", "mlnx-ofed-kernel-dkms", "infiniband-diags", "perftest"} <= held
    assert bed.execute("host1", "ibstat") == "ibstat of DOCA"
    assert starts(bed) == 1


def test_another_version_is_an_upgrade_and_stays_held(role: Role, bed: Bed, wanted: dict[str, Any]) -> None:
    outcome = role.run("host1", **wanted)
    assert outcome.rc == 0, outcome.stdout[-3000:]
    assert bed.execute("host1", "dpkg-query", "--show", "--showformat=${Version}", "doca-ofed") == "3.2.1-0.1.8"
    assert "doca-ofed" in bed.execute("host1", "apt-mark", "showhold").split()
    assert starts(bed) == 2


def test_a_second_run_changes_nothing_and_does_not_touch_openibd(
    role: Role, bed: Bed, wanted: dict[str, Any], repository: doca.Server
) -> None:
    before, asked = everything(bed, "host1"), len(repository.requests)
    outcome = role.run("host1", **wanted)
    assert (outcome.rc, outcome.changed) == (0, 0), outcome.stdout[-3000:]
    assert len(repository.requests) == asked, "a node that has it all needs no network"
    assert everything(bed, "host1") == before
    assert starts(bed) == 2


def test_an_upgrade_that_nobody_asked_for_leaves_it(bed: Bed) -> None:
    """The hold, tried with apt itself: 3.2.2's folder would bring the same packages again."""
    script = "sed -i s,/3.2.1/,/3.2.0/, /etc/apt/sources.list.d/gpufleet-doca.sources; apt-get update; apt-get -s "
    said = bed.execute("host1", "sh", "-c", script + "remove --yes doca-ofed 2>&1 || true")
    assert "Held packages were changed" in said
    bed.execute("host1", "sed", "-i", "s,/3.2.0/,/3.2.1/,", "/etc/apt/sources.list.d/gpufleet-doca.sources")


def test_what_dkms_has_not_built_is_built(role: Role, bed: Bed, wanted: dict[str, Any]) -> None:
    bed.execute("host1", "sh", "-c", f"echo 'mlnx-ofed-kernel/25.10, 1.0-old, x86_64: installed' >{doca.DKMS_STATE}")
    outcome = role.run("host1", **wanted)
    assert outcome.rc == 0, outcome.stdout[-3000:]
    assert bed.execute("host1", "uname", "-r") in bed.execute("host1", "dkms", "status")
    assert starts(bed) == 3


def test_an_openibd_that_can_not_be_restarted_is_said(role: Role, bed: Bed, wanted: dict[str, Any]) -> None:
    bed.execute("host1", "sh", "-c", f"echo 'mlnx-ofed-kernel/25.10, 1.0-old, x86_64: installed' >{doca.DKMS_STATE}")
    folder = "/run/systemd/system/openibd.service.d"
    script = (
        f"mkdir {folder}; printf '[Service]\\nExecStart=/bin/false\\n' >{folder}/held.conf; systemctl daemon-reload"
    )
    bed.execute("host1", "sh", "-c", script)
    try:
        outcome = role.run("host1", **wanted)
        assert outcome.rc != 0
        said = " ".join(outcome.stdout.split())
        assert "openibd can't be restarted" in said
        assert "Job for openibd.service failed" in said
    finally:
        bed.execute("host1", "sh", "-c", f"rm -r {folder}; systemctl daemon-reload; systemctl restart openibd")


def test_what_would_be_changed_under_a_run_is_refused(role: Role, bed: Bed, wanted: dict[str, Any]) -> None:
    """A process that carries a run's mark, as trainers do, and a record of that run."""
    runs = NODE["paths"]["runs"]
    bed.execute("host1", "sh", "-c", f'mkdir -p {runs}/r1; echo \'{{"node": "host1"}}\' >{runs}/r1/node.json')
    unit = ["systemd-run", "--unit=trainer", "--setenv=GPUFLEET_RUN=r1/host1", "sleep", "300"]
    bed.execute("host1", *unit)
    bed.execute("host1", "sh", "-c", f"echo 'mlnx-ofed-kernel/25.10, 1.0-old, x86_64: installed' >{doca.DKMS_STATE}")
    try:
        before = starts(bed)
        refused(role, bed, "host1", ["run r1 is active", "mlnx-ofed-kernel"], **wanted)
        assert starts(bed) == before
    finally:
        bed.execute("host1", "systemctl", "stop", "trainer")


def test_the_distributions_stack_is_refused_where_doca_is(role: Role, bed: Bed) -> None:
    said = ["infiniband_provider is inbox", "doca-ofed 3.2.1-0.1.8", "ofed_uninstall.sh", "provision again"]
    refused(role, bed, "host1", said, provider="inbox")


def test_a_downgrade_is_refused(role: Role, bed: Bed, wanted: dict[str, Any]) -> None:
    said = ["infiniband_doca_version is 3.2.0, but doca-ofed 3.2.1-0.1.8 is installed, which is newer"]
    refused(role, bed, "host1", said, **{**wanted, "doca_version": "3.2.0"})


# DOCA-OFED with dnf, on host3, which stands in for Rocky Linux 9


@pytest.fixture(scope="module")
def rocky(bare_hosts: Bed, keys: dict[str, tuple[Path, str]]) -> str:
    doca_rpm.become_rocky(bare_hosts, "host3", keys["right"][0], {"3.2.0": "3.2.0", "3.2.1": "3.2.1", "3.2.2": "3.2.1"})
    return "host3"


@pytest.fixture
def wanted_rpms(rocky: str, wanted: dict[str, Any]) -> dict[str, Any]:
    return {**wanted, "doca_repository": f"file://{doca_rpm.BASE}"}


def rpms(bed: Bed) -> str:
    """Packages and keys that rpm knows, and what is configured."""
    script = "rpm --query --all | sort; find /etc/yum.repos.d /etc/pki /etc/dnf -type f -exec cksum {} +"
    return bed.execute("host3", "sh", "-c", script)


def test_rpms_with_another_key_or_version_are_refused(
    role: Role, bed: Bed, wanted_rpms: dict[str, Any], keys: dict[str, tuple[Path, str]]
) -> None:
    before = rpms(bed)
    outcome = role.run("host3", **{**wanted_rpms, "doca_version": "3.2.2"})
    assert (outcome.rc != 0, outcome.changed) == (True, 0)
    assert "doca-ofed 3.2.2 is not in the repository; it has 0:3.2.1-0.1.8" in " ".join(outcome.stdout.split())
    Path(wanted_rpms["doca_key"]).write_text(keys["wrong"][1])
    outcome = role.run("host3", **wanted_rpms)
    assert (outcome.rc != 0, outcome.changed) == (True, 0)
    assert "the key of infiniband_doca_key" in " ".join(outcome.stdout.split())
    assert "NOKEY" in outcome.stdout
    assert rpms(bed) == before


def test_rpms_are_installed_locked_and_left_alone(role: Role, bed: Bed, wanted_rpms: dict[str, Any]) -> None:
    outcome = role.run("host3", **{**wanted_rpms, "doca_version": "3.2.0"})
    assert outcome.rc == 0, outcome.stdout[-3000:]
    assert bed.execute("host3", "rpm", "-q", "doca-ofed") == "doca-ofed-3.2.0-0.1.8.noarch"
    assert "installed" in bed.execute("host3", "dkms", "status")
    locks = bed.execute("host3", "dnf", "--quiet", "versionlock", "list").splitlines()
    assert {"doca-ofed-0:3.2.0-0.1.8.*", "perftest-0:2510.0-1.*"} <= set(locks)
    newer = f"dnf --assumeyes --repofrompath=newer,file://{doca_rpm.BASE}/3.2.1/rhel9/x86_64/ upgrade"
    assert "Nothing to do" in bed.execute("host3", "sh", "-c", newer)
    before = rpms(bed)
    outcome = role.run("host3", **{**wanted_rpms, "doca_version": "3.2.0"})
    assert (outcome.rc, outcome.changed) == (0, 0), outcome.stdout[-3000:]
    assert rpms(bed) == before


def test_rpms_of_another_version_are_an_upgrade_of_the_lock_too(
    role: Role, bed: Bed, wanted_rpms: dict[str, Any]
) -> None:
    outcome = role.run("host3", **wanted_rpms)
    assert outcome.rc == 0, outcome.stdout[-3000:]
    assert bed.execute("host3", "rpm", "-q", "doca-ofed") == "doca-ofed-3.2.1-0.1.8.noarch"
    assert "doca-ofed-0:3.2.1-0.1.8.*" in bed.execute("host3", "dnf", "--quiet", "versionlock", "list")
    assert role.run("host3", **wanted_rpms).changed == 0
