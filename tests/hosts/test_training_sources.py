# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host fetches what is published, as the account that trains, and the others get it from there."""

from __future__ import annotations

from pathlib import Path

from support.host_fleet import HostFleet
from support.small_fleet import changed

from tools.hosts.bed import Bed

PUBLISHED = "/srv/published.jsonl"
WORK = "/opt/axolotl/work"


def test_one_host_fetches_and_the_others_get_it_from_there(bare_hosts: Bed, tmp_path: Path) -> None:
    bare_hosts.execute("host0", "sh", "-c", f"seq 1000 >{PUBLISHED}")  # nobody else has it
    sha256 = bare_hosts.execute("host0", "sha256sum", PUBLISHED).split()[0]
    fleet = HostFleet(
        bare_hosts,
        tmp_path,
        ["host0", "host1", "host2"],
        axolotl_root="/opt/axolotl",
        axolotl_delivery="pull",
        axolotl_training_files=[{"url": f"file://{PUBLISHED}", "sha256": sha256, "dest": "data/train.jsonl"}],
    )
    parts = ("--tags", "host,training_files")
    fleet.provision(*parts)
    for host in fleet.names:
        found = bare_hosts.execute(host, "sha256sum", f"{WORK}/data/train.jsonl")
        assert found.split()[0] == sha256
        assert bare_hosts.execute(host, "find", WORK, "-not", "-user", "train") == ""
    assert changed(fleet.provision(*parts)) == 0
