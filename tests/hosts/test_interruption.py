# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Provision killed with its controller at random moments: the next one completes, and nothing shows that it happened.

A small release, so that ten rounds on three hosts take minutes. What runs on a host outlives the controller's end.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from support import release_state
from support.small_fleet import SmallFleet, changed

from tools.hosts.bed import Bed
from tools.hosts.inventory import document

NODES = ["host0", "host1", "host2"]
ROOT = "/opt/axolotl"
ROUNDS = 10


@pytest.fixture
def fleet(bare_hosts: Bed, tmp_path: Path) -> SmallFleet:
    """Three hosts and a release of two packages, brought by the controller."""
    fleet = SmallFleet(tmp_path)
    wheel = f"uv=={fleet.settings['axolotl_uv_version']}"
    next(fleet.links.glob("uv-*.whl")).unlink()  # the hosts need one that works
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(fleet.links), wheel]
    subprocess.run(download, check=True)
    settings = {name: value for name, value in fleet.settings.items() if name.startswith("axolotl_")}
    for name in ("axolotl_machine", "axolotl_address", "axolotl_uv_cache_dir"):
        del settings[name]
    inventory = document(bare_hosts, NODES)
    inventory["all"]["vars"].update(
        settings,
        axolotl_root=ROOT,
        axolotl_user="train",
        axolotl_delivery="push",
        axolotl_python_platform="x86_64-manylinux_2_28",
    )
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    return fleet


def states(bed: Bed) -> dict[str, dict[str, str]]:
    """What each host holds, and to whom it belongs."""
    program = Path(release_state.__file__).read_text()
    found = {host: json.loads(bed.execute(host, "python3", "-c", program, ROOT)) for host in NODES}
    for host in NODES:
        assert bed.execute(host, "find", ROOT, "-not", "-user", "train") == ""
    return found


@pytest.mark.timeout(1500)
def test_provision_killed_at_random_moments(bed: Bed, fleet: SmallFleet) -> None:
    fleet.provision()  # packs, and makes the account
    bare = ["find", ROOT, "-mindepth", "1", "-delete"]
    for host in NODES:
        bed.execute(host, *bare)
    begin = time.monotonic()
    fleet.provision()
    duration = time.monotonic() - begin
    expected = states(bed)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}, a whole provision takes {duration:.1f} s")
    moments = random.Random(seed)
    for number in range(ROUNDS):
        for host in NODES:
            bed.execute(host, *bare)
        moment = moments.uniform(0.5, duration)
        print(f"round {number}: killed after {moment:.1f} s")
        controller = subprocess.Popen(
            fleet.command("provision"),
            cwd=fleet.project,
            env=fleet.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(moment)
        os.killpg(controller.pid, signal.SIGKILL)
        controller.wait()
        fleet.provision()
        assert states(bed) == expected
    assert changed(fleet.provision()) == 0
