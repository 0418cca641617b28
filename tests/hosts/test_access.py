# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands between the controller and a host. Each is one finding that names the host, and nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.fleet import Fleet

from tools.hosts.bed import ADMINISTRATOR, Bed


@pytest.fixture(autouse=True)
def untouched(bare_hosts: Bed) -> Iterator[None]:
    """Whatever is refused leaves no account and no folder behind."""
    yield
    for host in bare_hosts.hosts:
        assert bare_hosts.execute(host, "find", "/opt", "-mindepth", "1") == ""
        assert "train" not in bare_hosts.execute(host, "cat", "/etc/passwd")


def test_changed_host_key(bed: Bed, fleet: Fleet, inventory: Path) -> None:
    known = bed.known_hosts.read_text()
    addresses = {address: name for name, address in bed.hosts.items()}
    lines = dict(zip((addresses[line.split()[0]] for line in known.splitlines()), known.splitlines(), strict=True))
    # host1 answers with a key that is not the one on record: host2's is.
    lines["host1"] = lines["host2"].replace(bed.hosts["host2"], bed.hosts["host1"])
    bed.known_hosts.write_text("\n".join(lines.values()) + "\n")
    bed.forget_connections()
    try:
        outcome = fleet.run("provision", inventory=inventory)
    finally:
        bed.known_hosts.write_text(known)
    assert outcome.rc != 0
    assert outcome.errors == ["unreachable"]
    finding = outcome.finding("unreachable")
    assert finding["hosts"] == ["host1"]
    assert "HOST IDENTIFICATION HAS CHANGED" in finding["found"]


def test_account_that_may_not_use_sudo(bed: Bed, fleet: Fleet, inventory: Path) -> None:
    rights = f"/etc/sudoers.d/{ADMINISTRATOR}"
    bed.execute("host2", "mv", rights, "/root/rights")
    try:
        outcome = fleet.run("provision", inventory=inventory)
    finally:
        bed.execute("host2", "mv", "/root/rights", rights)
    assert outcome.rc != 0
    assert outcome.errors == ["root_denied"]
    finding = outcome.finding("root_denied")
    assert finding["hosts"] == ["host2"]
    assert "password" in finding["found"]
    assert "axolotl_user is train" in finding["expected"]
    assert outcome.changed == 0


def test_host_that_is_off(bed: Bed, fleet: Fleet, inventory: Path) -> None:
    hosts = yaml.safe_load((inventory / "hosts.yml").read_text())
    address = bed.hosts["host0"].rsplit(".", 1)[0] + ".250"  # in the hosts' network, and nobody has it
    hosts["all"]["children"]["axolotl_nodes"]["hosts"]["host1"] = {"ansible_host": address, "ansible_timeout": 3}
    (inventory / "hosts.yml").write_text(yaml.safe_dump(hosts, sort_keys=False))
    outcome = fleet.run("provision", inventory=inventory)
    assert outcome.rc != 0
    assert outcome.errors == ["unreachable"]
    assert outcome.finding("unreachable")["hosts"] == ["host1"]
    assert outcome.changed == 0
