# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mount and a network namespace in which podman can run systemd hosts on a machine that has no pure cgroup v2.

systemd as PID 1 of a container wants cgroup v2 for itself. Where systemd is this machine's init, the container engine
arranges that. Elsewhere (virtual machines with another init, hybrid cgroups) the engine runs in a private mount
namespace that has nothing but cgroup v2, and in a network namespace of its own, so that the machine's own firewall and
interfaces stay as they are. Both are files below the bed's folder, and go away with it.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
from pathlib import Path

CGROUP2_MAGIC = "cgroup2fs"  # what stat -f calls the file system

# RFC 2544's range for benchmarks between hosts: no network that a machine is really connected to has it.
POOL = ipaddress.ip_network("198.18.0.0/15")

PREFIX = "gpf"
"""Begins the name of every interface and table of a bed; short, since an interface's name has at most 15 characters."""
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
FORWARDED_BEFORE = "ip_forward"

# Runs inside the new namespaces; each mount is private to them.
PREPARE = """
set -eu
umount -R /sys/fs/cgroup
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
mount --make-shared /run/netns
ip link set lo up
sysctl -qw net.ipv4.ip_forward=1
"""


def is_needed() -> bool:
    """Whether systemd in a container would not find what it needs on this machine."""
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", "/sys/fs/cgroup"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    return kind != CGROUP2_MAGIC


def free_networks() -> tuple[ipaddress.IPv4Network, ipaddress.IPv4Network]:
    """A /24 for the hosts and a /30 for the way to them that no other bed on this machine uses."""
    listing = subprocess.run(["ip", "-json", "route"], check=True, stdout=subprocess.PIPE, text=True).stdout
    destinations = [route["dst"] for route in json.loads(listing) if route["dst"] != "default"]
    used = [ipaddress.ip_network(destination) for destination in destinations]
    for block in POOL.subnets(new_prefix=23):
        if not any(block.overlaps(network) for network in used):
            hosts, rest = block.subnets(new_prefix=24)
            return hosts, next(rest.subnets(new_prefix=30))
    raise RuntimeError(f"every network of {POOL} is in use on this machine")


class Lab:
    """The namespaces below `folder`, and the veth pair that leads to them."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._outside = f"{PREFIX}-{name}-out"
        self._inside = f"{PREFIX}-{name}-in"
        self._table = f"{PREFIX}-{name}"

    def command(self, *argv: str) -> list[str]:
        """`argv` inside the namespaces; the working directory is kept."""
        where = [f"--wd={os.getcwd()}", f"--mount={self._folder}/mnt", f"--net={self._folder}/net"]
        return ["nsenter", *where, "--", *argv]

    def up(self, hosts: ipaddress.IPv4Network, way: ipaddress.IPv4Network) -> None:
        """Make the namespaces and lead `hosts` into them over `way`; what leaves for elsewhere is masqueraded."""
        self._folder.mkdir(parents=True)
        for name in ("mnt", "net"):
            (self._folder / name).touch()
        outside, inside = (str(address) for address in way.hosts())
        # A namespace can only be bound to a file on a mount that is private.
        _run("mount", "--bind", str(self._folder), str(self._folder))
        _run("mount", "--make-private", str(self._folder))
        namespaces = [f"--mount={self._folder}/mnt", f"--net={self._folder}/net", "--propagation", "private"]
        _run("unshare", *namespaces, "bash", "-c", PREPARE)
        _run("ip", "link", "add", self._outside, "type", "veth", "peer", "name", self._inside)
        _run("ip", "link", "set", self._inside, "netns", str(self._folder / "net"))
        _run("ip", "address", "add", f"{outside}/{way.prefixlen}", "dev", self._outside)
        _run("ip", "link", "set", self._outside, "up")
        _run(*self.command("ip", "address", "add", f"{inside}/{way.prefixlen}", "dev", self._inside))
        _run(*self.command("ip", "link", "set", self._inside, "up"))
        _run(*self.command("ip", "route", "add", "default", "via", outside))
        _run("ip", "route", "add", str(hosts), "via", inside)
        (self._folder / FORWARDED_BEFORE).write_text(FORWARDING.read_text())
        FORWARDING.write_text("1")
        self._masquerade([hosts, way])

    def _masquerade(self, networks: list[ipaddress.IPv4Network]) -> None:
        sources = ", ".join(str(network) for network in networks)
        rules = f"""
            table ip {self._table} {{
                chain postrouting {{
                    type nat hook postrouting priority srcnat
                    ip saddr {{ {sources} }} oifname != "{self._outside}" masquerade
                }}
            }}"""
        _run("nft", "--file", "-", text=rules)

    def down(self) -> None:
        """Take away what `up` made; what is not there is no error, since an interrupted `up` may have made a part."""
        subprocess.run(["nft", "delete", "table", "ip", self._table], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "link", "delete", self._outside], check=False, stderr=subprocess.DEVNULL)
        before = self._folder / FORWARDED_BEFORE
        others = [name for name in os.listdir("/sys/class/net") if name.startswith(f"{PREFIX}-")]
        if before.exists() and not others:
            FORWARDING.write_text(before.read_text())
        for mount in reversed(_mounts_below(self._folder)):
            _run("umount", "--lazy", mount)
        shutil.rmtree(self._folder, ignore_errors=True)


def _mounts_below(folder: Path) -> list[str]:
    """Mount points at and below a folder, in the order in which they were made (proc_pid_mountinfo(5): field 5)."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if Path(point) == folder or folder in Path(point).parents]


def _run(*argv: str, text: str | None = None) -> None:
    subprocess.run(argv, check=True, input=text, text=True)
