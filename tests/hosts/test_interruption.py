# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Provision killed with its controller at random moments: the next one completes, and nothing shows that it happened.

A small release, so that a round on three hosts takes less than a minute. What runs on a host outlives its controller.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support import release_state
from support.host_fleet import HostFleet
from support.small_fleet import changed

from tools.hosts.bed import Bed

ROOT = "/opt/axolotl"
ROUNDS = int(os.environ.get("INTERRUPTIONS", "4"))
"""Each takes most of a minute, at other moments every time."""


ROOT_MARKERS = ["find", ROOT, "-maxdepth", "1", "-name", ".gpufleet-marker-*"]
"""What proves the storage, if the proof was cut off: another proof takes it away, but only when it is an hour old."""


@pytest.fixture
def fleet(bare_hosts: Bed, tmp_path: Path) -> HostFleet:
    return HostFleet(bare_hosts, tmp_path, ["host0", "host1", "host2"], axolotl_root=ROOT)


def states(bed: Bed, hosts: list[str]) -> dict[str, dict[str, str]]:
    """What each host holds, and to whom it belongs."""
    program = Path(release_state.__file__).read_text()
    found = {host: json.loads(bed.execute(host, "python3", "-c", program, ROOT)) for host in hosts}
    for host in hosts:
        assert bed.execute(host, "find", ROOT, "-not", "-user", "train") == ""
    return found


def differences(found: dict[str, dict[str, str]], expected: dict[str, dict[str, str]]) -> list[str]:
    """Each file that is not as an uninterrupted provision leaves it, with its host."""
    return [
        f"{host}: {name}: {found[host].get(name, 'missing')} for {wanted.get(name, 'none')}"
        for host, wanted in expected.items()
        for name in sorted(found[host].keys() | wanted.keys())
        if found[host].get(name) != wanted.get(name)
    ]


@pytest.mark.timeout(300 * (ROUNDS + 1))
def test_provision_killed_at_random_moments(bed: Bed, fleet: HostFleet) -> None:
    fleet.provision()  # packs, and makes the account
    bare = ["find", ROOT, "-mindepth", "1", "-delete"]
    for host in fleet.names:
        bed.execute(host, *bare)
    begin = time.monotonic()
    fleet.provision()
    duration = time.monotonic() - begin
    expected = states(bed, fleet.names)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}, a whole provision takes {duration:.1f} s")
    moments = random.Random(seed)
    for number in range(ROUNDS):
        for host in fleet.names:
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
        for host in fleet.names:
            bed.execute(host, *ROOT_MARKERS, "-exec", "touch", "-d", "2 hours ago", "{}", "+")
        fleet.provision()
        assert differences(states(bed, fleet.names), expected) == []
    assert changed(fleet.provision()) == 0
