# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real hosts: systemd, sshd, firewall and package manager of their own. Three are nodes, the fourth is a stranger.

A bed that is up is used and left up (`make hosts N=4`), which makes work on a test quick; otherwise one is made and
taken down again. Each test file starts with the hosts that it needs bare.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.fleet import LOCAL, Fleet, Outcome

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.release_name import lock_key
from tools.hosts import BED, PROJECT
from tools.hosts.bed import Bed
from tools.hosts.inventory import FOLDER, document
from tools.hosts.requirements import missing

NODES = ["host0", "host1", "host2"]
STRANGER = "host3"
COMMIT = "cfe962a45cfe12064a375f9c784487998059c657"
RELEASE = {"axolotl_python_version": "3.12", "axolotl_python_platform": "x86_64-manylinux_2_28"}


@pytest.fixture(scope="session")
def bed() -> Iterator[Bed]:
    """Four hosts, in whatever state earlier tests left them."""
    lacking = missing()
    assert not lacking, lacking
    was_up = bool(BED.hosts)
    try:
        BED.up(4)
        yield BED
    finally:
        if not was_up:
            BED.down()


@pytest.fixture(scope="module")
def bare_hosts(bed: Bed) -> Bed:
    """Four hosts as their image makes them, once for each file of tests."""
    bed.renew(*bed.hosts)
    return bed


@pytest.fixture
def fleet(bed: Bed, tmp_path: Path) -> Fleet:
    """The verbs, with artifacts of their own."""
    return Fleet(tmp_path)


@pytest.fixture
def inventory(bed: Bed, local_files: Path, tmp_path: Path) -> Path:
    """A folder: three hosts as nodes, one stranger, and the settings of inventories/hosts. A test may change it."""
    folder = tmp_path / "inventory"
    shutil.copytree(FOLDER / "group_vars", folder / "group_vars")
    (folder / "hosts.yml").write_text(yaml.safe_dump(document(bed, NODES, [STRANGER]), sort_keys=False))
    return folder


@pytest.fixture(scope="session")
def local_files() -> Path:
    """The demo's repository, model and data on this machine, from which provision takes what the hosts get."""
    subprocess.run([sys.executable, str(PROJECT / "tools" / "local_nodes.py")], check=True)
    return LOCAL


@pytest.fixture
def preflight(bare_hosts: Bed, fleet: Fleet, inventory: Path, tmp_path: Path) -> Any:
    """Run preflight on bare hosts as the account that connects, with variables of single hosts and of all.

    What is found of a host that is bare is left out of `Outcome.found`.
    """
    lock = tmp_path / "locks" / f"{lock_key(COMMIT, [], ['torch==2.13.0'], *RELEASE.values(), '')}.txt"
    lock.parent.mkdir()
    lock.write_text("torch==2.13.0\n")
    everywhere = {"axolotl_user": "", "axolotl_lock_dir": str(lock.parent), "axolotl_torch_backend": "", **RELEASE}

    def run(of_hosts: dict[str, dict[str, str]] | None = None, **variables: Any) -> Outcome:
        hosts = yaml.safe_load((inventory / "hosts.yml").read_text())
        for host, own in (of_hosts or {}).items():
            hosts["all"]["children"]["axolotl_nodes"]["hosts"][host].update(own)
        (inventory / "hosts.yml").write_text(yaml.safe_dump(hosts, sort_keys=False))
        return fleet.run("preflight", inventory=inventory, **everywhere, **variables)

    return run
