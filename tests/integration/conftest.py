# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real verbs on inventories/local, run through ansible-runner, each test with artifacts of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fleet import LOCAL, PROJECT, Fleet


@pytest.fixture(scope="session")
def provisioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both local nodes with a release and the training files; the first time this installs Axolotl."""
    subprocess.run([sys.executable, str(PROJECT / "tools" / "local_nodes.py")], check=True)
    outcome = Fleet(tmp_path_factory.mktemp("provision")).run("provision")
    assert outcome.rc == 0, outcome.stdout
    return LOCAL


@pytest.fixture
def fleet(provisioned: Path, tmp_path: Path) -> Iterator[Fleet]:
    """A provisioned fleet; whatever a test leaves running is ended after it."""
    fleet = Fleet(tmp_path)
    yield fleet
    if fleet.launched:
        fleet.run("stop")


@pytest.fixture
def bare_fleet(provisioned: Path, tmp_path: Path) -> Fleet:
    """The verbs for input that must be refused before anything is touched, so that there is nothing to end."""
    return Fleet(tmp_path)
