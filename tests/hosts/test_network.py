# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What preflight reads of a host's network and limits, on hosts that have interfaces, names and a systemd of their own.

The hosts stay bare: that the release and the config are missing is found too, and left out by the fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tools.hosts.bed import ADMINISTRATOR, Bed


@pytest.fixture
def second_network(bed: Bed) -> Iterator[dict[str, str]]:
    """An interface data0 on two of the three nodes; its addresses."""
    addresses = {"host0": "10.77.0.1", "host1": "10.77.0.2"}
    for host, address in addresses.items():
        bed.execute(host, "ip", "link", "add", "data0", "type", "veth", "peer", "name", "data1")
        bed.execute(host, "ip", "addr", "add", f"{address}/24", "dev", "data0")
        for end in ("data0", "data1"):
            bed.execute(host, "ip", "link", "set", end, "up")
    yield addresses
    for host in addresses:
        bed.execute(host, "ip", "link", "del", "data0")


def test_the_interface_that_carries_the_address_is_derived(bed: Bed, preflight: Any) -> None:
    outcome = preflight()
    assert outcome.found() == []
    for host, part in outcome.artifact["plan"]["nodes"].items():
        assert part["start"]["environment"]["GLOO_SOCKET_IFNAME"] == "eth0"
        network = outcome.artifact["evidence"]["fingerprints"][host]["network"]
        assert network["interfaces"]["eth0"]["addresses"][0] == f"{bed.hosts[host]}/24"
        assert (network["login"], network["default_route"], network["head"]["interface"]) == ("eth0", "eth0", "eth0")


def test_an_interface_that_one_node_lacks_is_one_finding(
    preflight: Any, second_network: dict[str, str], bed: Bed
) -> None:
    addresses = {**second_network, "host2": "10.77.0.3"}
    of_hosts = {host: {"axolotl_address": address} for host, address in addresses.items()}
    outcome = preflight(of_hosts, axolotl_interface="data0")
    # data0 leads nowhere on these hosts, so nobody is reached either: who is said to be the cause is not asked here.
    rows = [row for row in outcome.found() if row[0].startswith("interface_")]
    assert rows == [("interface_missing", ["host2"], "error")]
    assert outcome.finding("interface_missing")["found"] == "no such interface; there are eth0, lo"


def test_the_login_is_told_from_the_training(preflight: Any, second_network: dict[str, str]) -> None:
    outcome = preflight()
    assert outcome.found() == [("interface_management", ["host0", "host1"], "warning")]
    outcome = preflight(axolotl_management_networks=["198.18.0.0/15"])
    assert ("interface_management", ["host0", "host1", "host2"], "error") in outcome.found()


def test_a_head_whose_name_leads_to_its_own_loopback(preflight: Any) -> None:
    """The hosts have the line of 127.0.1.1 that Debian's installer writes."""
    outcome = preflight(axolotl_address="{{ inventory_hostname }}")
    assert outcome.found() == [("head_resolves_loopback", ["host0"], "error")]
    assert outcome.finding("head_resolves_loopback")["found"] == "there it resolves to 127.0.1.1"
    derived = {host: part["derived"] for host, part in outcome.artifact["plan"]["nodes"].items()}
    assert derived["host1"]["GLOO_SOCKET_IFNAME"] == {"value": "eth0", "reason": "it leads to the head, host0"}


def test_limits_are_those_of_the_accounts_own_manager(bed: Bed, preflight: Any) -> None:
    """A login has what limits.conf gives it; a unit can't have more than the account's manager."""
    drop_in = "/etc/systemd/system/user@.service.d"
    limit = f"mkdir -p {drop_in}; printf '[Service]\\nLimitMEMLOCK=1M\\n' >{drop_in}/memlock.conf"
    restart = f"systemctl daemon-reload; systemctl restart user@$(id -u {ADMINISTRATOR})"
    for host in ("host1", "host2"):
        bed.execute(host, "loginctl", "enable-linger", ADMINISTRATOR)
    bed.execute("host1", "sh", "-c", f"{limit}; {restart}")
    prints = preflight().artifact["evidence"]["fingerprints"]
    limits = {host: (known["limits"]["context"], known["limits"]["error"]) for host, known in prints.items()}
    assert limits == {"host0": ("process", None), "host1": ("systemd", None), "host2": ("systemd", None)}
    assert prints["host1"]["limits"]["memlock"] == {"soft": 1 << 20, "hard": 1 << 20}
    assert prints["host2"]["limits"]["memlock"] != prints["host1"]["limits"]["memlock"]
    manager = ["runuser", "-u", ADMINISTRATOR, "--", "env", "XDG_RUNTIME_DIR=/run/user/1000", "systemctl", "--user"]
    assert bed.execute("host1", *manager, "is-system-running") == "running"  # nothing has failed,
    assert bed.execute("host1", *manager, "list-units", "--all", "--no-legend", "run-*.service") == ""  # or is left
