# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every molecule scenario, in its own sequence, on the bed that the other tests use too.

Then every launcher, on the fleet that the last scenario has provisioned with the real Axolotl.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.fleet import Fleet

from tools.hosts import PROJECT
from tools.hosts.bed import Bed
from tools.hosts.inventory import FOLDER

SCENARIOS = sorted(path.parent.name for path in (PROJECT / "extensions" / "molecule").glob("*/molecule.yml"))


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(bare_hosts: Bed, local_files: Path, scenario: str) -> None:
    # What an earlier run noted of hosts that are gone would make this one leave their preparation out.
    molecule("reset", "--scenario-name", scenario)
    # The bed is taken down with the last test.
    molecule("test", "--scenario-name", scenario, "--destroy", "never")


WAYS: dict[str, dict[str, Any]] = {
    "torchrun": {},
    "c10d": {"axolotl_rendezvous": "c10d"},
    "torchrun_legacy": {"axolotl_launcher": "torchrun_legacy"},
    "accelerate": {"axolotl_launcher": "accelerate"},
}


@pytest.mark.timeout(1200)
def test_every_launcher_trains_the_same_on_the_hosts(bare_hosts: Bed, fleet: Fleet) -> None:
    losses = {}
    for way, settings in WAYS.items():
        outcome = fleet.run("launch", inventory=FOLDER, **settings)
        assert outcome.rc == 0, outcome.stdout[-8000:]
        evidence = outcome.artifact["evidence"]
        assert (evidence["world_size"], evidence["ranks_seen"]) == (3, [0, 1, 2])
        losses[way] = evidence["losses"]
    assert len(losses["torchrun"]) == 4
    # c10d ranks the nodes as they come, and sums are rounded in another order then.
    assert all(found == pytest.approx(losses["torchrun"], abs=0.002) for found in losses.values()), losses


def molecule(*arguments: str) -> None:
    binaries = Path(sys.executable).parent
    done = subprocess.run(
        [binaries / "molecule", *arguments],
        check=False,
        cwd=PROJECT,
        env={**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-8000:]
