# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The firewalls of three nodes, each another one and each closed both ways, proven by connecting through them.

One story in order: each test begins where the one before it ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.fleet import PROJECT, Fleet, Outcome

from tools.hosts.bed import Bed
from tools.hosts.inventory import document

FIREWALLD, UFW, NFTABLES, STRANGER = HOSTS = ["host0", "host1", "host2", "host3"]
NODES = HOSTS[:3]
RENDEZVOUS, WATCH, OTHER_RENDEZVOUS = 29500, 29501, 29600
CHOSEN = 40000  # as the kernel chooses them for NCCL and gloo
SERVICE = 8080  # of the owner's, for nobody outside
SSH = 22
PORTS = [RENDEZVOUS, WATCH, OTHER_RENDEZVOUS, CHOSEN, SERVICE, SSH]

Link = tuple[str, str, int]
"""Who dials, whom, and at which port."""

# What the owner of each node has set up: SSH comes in, nothing else comes in, nothing goes out.
OWNERS = {
    FIREWALLD: """
        systemctl enable --quiet --now firewalld
        firewall-cmd --quiet --permanent --new-policy=sealed
        firewall-cmd --quiet --permanent --policy=sealed --add-ingress-zone=HOST
        firewall-cmd --quiet --permanent --policy=sealed --add-egress-zone=ANY
        firewall-cmd --quiet --permanent --policy=sealed --set-target=DROP
        firewall-cmd --quiet --reload
    """,
    UFW: """
        ufw allow 22/tcp comment 'of the owner'
        ufw default deny outgoing
        ufw --force enable
        systemctl enable --quiet ufw
    """,
    NFTABLES: """
        cat >/etc/nftables.conf <<'END'
flush ruleset
table inet filter {
    chain input {
        type filter hook input priority filter; policy drop;
        iif lo accept
        ct state vmap { established : accept, related : accept, invalid : drop }
        tcp dport 22 accept
    }
    chain output {
        type filter hook output priority filter; policy drop;
        oif lo accept
        ct state established,related accept
    }
}
END
        systemctl enable --quiet --now nftables
    """,
}
LISTENER = f"""[Unit]
Description=Listens on every port of the test but sshd's
[Service]
ExecStart=/usr/bin/python3 -c 'import socket, signal; \\
    open_ports = [socket.create_server(("", port)) for port in {PORTS[:-1]}]; signal.pause()'
[Install]
WantedBy=multi-user.target
"""
DIAL = """
import concurrent.futures, json, socket, sys
def dial(link):
    try:
        socket.create_connection(link, timeout=1.2).close()
        return True
    except OSError:
        return False
links = [tuple(link) for link in json.loads(sys.argv[1])]
with concurrent.futures.ThreadPoolExecutor(64) as pool:
    print(json.dumps([link for link, reached in zip(links, pool.map(dial, links)) if reached]))
"""


@pytest.fixture(scope="module")
def guarded(bare_hosts: Bed) -> Bed:
    """Three nodes with a firewall each, and all hosts listening."""

    def prepare(host: str) -> None:
        script = OWNERS.get(host, "") + "systemctl enable --quiet --now listener\n"
        bare_hosts.execute(host, "sh", "-c", 'printf %s "$1" >/etc/systemd/system/listener.service', "sh", LISTENER)
        bare_hosts.execute(host, "sh", "-ec", script)

    with ThreadPoolExecutor() as pool:
        list(pool.map(prepare, HOSTS))
    return bare_hosts


@pytest.fixture
def reached(guarded: Bed) -> Callable[[], set[Link]]:
    """Dial every port of every host from every other host at once, and give the links that came about."""

    def dial(source: str) -> set[Link]:
        names = {address: host for host, address in guarded.hosts.items() if host != source}
        links = json.dumps([[address, port] for address in names for port in PORTS])
        answered = json.loads(guarded.execute(source, "python3", "-c", DIAL, links))
        return {(source, names[address], port) for address, port in answered}

    def dial_all() -> set[Link]:
        with ThreadPoolExecutor() as pool:
            return set().union(*pool.map(dial, HOSTS))

    return dial_all


@pytest.fixture
def provision(guarded: Bed, fleet: Fleet, tmp_path: Path) -> Callable[..., Outcome]:
    """Run the role on some nodes, with settings of the test's own."""

    def run(*options: str, nodes: Sequence[str] = tuple(NODES), **settings: Any) -> Outcome:
        inventory = document(guarded, nodes)
        inventory["all"]["vars"].update(
            axolotl_root="/opt/axolotl",
            axolotl_repository="unused",
            axolotl_commit="0" * 40,
            axolotl_config=str(PROJECT / "configs/tiny.yml"),
            axolotl_nproc_per_node=1,
            **{f"axolotl_{name}": value for name, value in settings.items()},
        )
        path = tmp_path / "inventory.yml"
        path.write_text(yaml.safe_dump(inventory))
        playbook = str(Path(__file__).with_name("firewall.yml"))
        return fleet.run("provision", *options, inventory=path, playbook=playbook)

    return run


def links(nodes: list[str], *ports: int) -> set[Link]:
    """From each of these to each other."""
    return {(source, target, port) for source in nodes for target in nodes if source != target for port in ports}


# Whoever may send reaches every port of the stranger, which has no firewall, and SSH of every node.
ALWAYS = {(STRANGER, node, SSH) for node in NODES}


def test_before_peers_are_kept_out(reached: Callable[[], set[Link]]) -> None:
    assert reached() == ALWAYS


def test_check_mode_says_what_would_be_opened(
    provision: Callable[..., Outcome], reached: Callable[[], set[Link]]
) -> None:
    outcome = provision("--check", "--diff")
    assert (outcome.rc, outcome.changed) == (0, len(NODES)), outcome.stdout
    for line in ("+policy gpufleet_in:", "+ufw allow from", "+inet filter input: ip saddr @gpufleet_peers4"):
        assert line in outcome.stdout
    assert reached() == ALWAYS


def test_a_reload_that_would_undo_the_owners_change_is_refused(guarded: Bed, provision: Callable[..., Outcome]) -> None:
    guarded.execute(FIREWALLD, "firewall-cmd", "--add-port=8081/tcp")
    outcome = provision(nodes=[FIREWALLD])
    assert outcome.rc != 0
    assert "expected none, found such changes in public" in outcome.stdout
    assert "8081/tcp" in guarded.execute(FIREWALLD, "firewall-cmd", "--list-ports")
    assert guarded.execute(FIREWALLD, "firewall-cmd", "--permanent", "--get-ipsets") == ""
    guarded.execute(FIREWALLD, "firewall-cmd", "--remove-port=8081/tcp")


def test_peers_reach_each_other_and_strangers_do_not(
    provision: Callable[..., Outcome], reached: Callable[[], set[Link]]
) -> None:
    outcome = provision()
    assert (outcome.rc, outcome.changed) == (0, len(NODES)), outcome.stdout
    assert reached() == ALWAYS | links(NODES, RENDEZVOUS, WATCH, CHOSEN)


def test_a_second_time_nothing_changes(provision: Callable[..., Outcome]) -> None:
    outcome = provision()
    assert (outcome.rc, outcome.changed) == (0, 0), outcome.stdout


def test_reloads_and_reboots_change_nothing(
    guarded: Bed, provision: Callable[..., Outcome], reached: Callable[[], set[Link]]
) -> None:
    open_links = ALWAYS | links(NODES, RENDEZVOUS, WATCH, CHOSEN)
    guarded.execute(FIREWALLD, "firewall-cmd", "--reload")
    guarded.execute(UFW, "ufw", "reload")
    guarded.execute(NFTABLES, "systemctl", "reload", "nftables")
    assert reached() == open_links
    guarded.engine().run("restart", "--time=2", *[guarded.container(node) for node in NODES])
    guarded.up(len(HOSTS))
    for node in NODES:
        guarded.execute(node, "systemctl", "is-system-running", "--wait")
    assert reached() == open_links
    outcome = provision()
    assert (outcome.rc, outcome.changed) == (0, 0), outcome.stdout


def test_another_port_takes_the_place_of_the_old(
    provision: Callable[..., Outcome], reached: Callable[[], set[Link]]
) -> None:
    outcome = provision(master_port=OTHER_RENDEZVOUS)
    assert (outcome.rc, outcome.changed) == (0, len(NODES)), outcome.stdout
    assert reached() == ALWAYS | links(NODES, OTHER_RENDEZVOUS, WATCH, CHOSEN)


@pytest.mark.parametrize("gone", [UFW, FIREWALLD])
def test_a_node_that_left_is_a_stranger(
    gone: str, provision: Callable[..., Outcome], reached: Callable[[], set[Link]]
) -> None:
    staying = [node for node in NODES if node != gone]
    outcome = provision(nodes=staying)
    assert (outcome.rc, outcome.changed) == (0, len(staying)), outcome.stdout
    assert reached() == ALWAYS | links(staying, RENDEZVOUS, WATCH, CHOSEN)


def test_none_closes_all_and_leaves_the_owners_rules(
    guarded: Bed, provision: Callable[..., Outcome], reached: Callable[[], set[Link]]
) -> None:
    outcome = provision(firewall="none")
    assert (outcome.rc, outcome.changed) == (0, len(NODES)), outcome.stdout
    assert reached() == ALWAYS
    for node in NODES:
        left = guarded.execute(node, "sh", "-c", "grep -rls gpufleet /etc --include=* | grep -v '^/etc/.*[.]old$' || :")
        assert left == "", (node, left)
    assert provision("--check", firewall="none").changed == 0


def test_a_firewall_that_is_not_active_is_never_started(guarded: Bed, provision: Callable[..., Outcome]) -> None:
    guarded.execute(FIREWALLD, "systemctl", "disable", "--now", "firewalld")
    guarded.execute(UFW, "ufw", "disable")
    guarded.execute(NFTABLES, "nft", "flush", "ruleset")
    outcome = provision()
    assert (outcome.rc, outcome.changed) == (0, 0), outcome.stdout
    assert "no firewall is active on some nodes" in outcome.stdout
    outcome = provision(nodes=[FIREWALLD], firewall="firewalld")
    assert outcome.rc != 0
    assert "expected firewalld to be active" in outcome.stdout
    assert guarded.execute(FIREWALLD, "nft", "list", "ruleset") == ""
    assert "inactive" in guarded.execute(UFW, "ufw", "status")


def test_iptables_rules_of_the_owner_are_named(guarded: Bed, provision: Callable[..., Outcome]) -> None:
    guarded.execute(NFTABLES, "iptables", "-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT")
    guarded.execute(NFTABLES, "iptables", "-A", "INPUT", "-p", "tcp", "-j", "REJECT")
    guarded.execute(NFTABLES, "iptables", "-P", "INPUT", "DROP")
    before = guarded.execute(NFTABLES, "iptables-save", "-t", "filter").splitlines()[1:-2]
    outcome = provision(nodes=[NFTABLES])
    assert outcome.rc != 0
    assert "iptables rules that are none of these filtering in INPUT of iptables-save" in outcome.stdout
    after = guarded.execute(NFTABLES, "iptables-save", "-t", "filter").splitlines()[1:-2]
    assert [line.partition("[")[0] for line in after] == [line.partition("[")[0] for line in before]
