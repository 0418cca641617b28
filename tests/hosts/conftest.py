# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real hosts: systemd, sshd, firewall and package manager of their own. Three are nodes, the fourth is a stranger.

A bed that is up is used and left up (`make hosts N=4`), which makes work on a test quick; otherwise one is made and
taken down again. Each test file starts with the hosts that it needs bare.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.fleet import Fleet

from tools.hosts import BED
from tools.hosts.bed import Bed
from tools.hosts.inventory import document
from tools.hosts.requirements import missing

NODES = ["host0", "host1", "host2"]
STRANGER = "host3"


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
def inventory(bed: Bed, tmp_path: Path) -> Path:
    """Three hosts as nodes and one stranger; connection only, settings come with the test."""
    path = tmp_path / "hosts.yml"
    path.write_text(yaml.safe_dump(document(bed, NODES, [STRANGER]), sort_keys=False))
    return path
