# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every molecule scenario, in its own sequence, on the bed that the other tests use too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.hosts import PROJECT
from tools.hosts.bed import Bed

SCENARIOS = sorted(path.parent.name for path in (PROJECT / "extensions" / "molecule").glob("*/molecule.yml"))


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(bare_hosts: Bed, local_files: Path, scenario: str) -> None:
    # What an earlier run has noted of hosts that are gone would make this one leave out their preparation.
    binaries = Path(sys.executable).parent
    done = subprocess.run(
        [binaries / "molecule", "test", "--scenario-name", scenario, "--destroy", "never"],
        check=False,
        cwd=PROJECT,
        env={**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-8000:]
