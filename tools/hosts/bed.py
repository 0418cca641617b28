# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bed of test hosts: N containers with systemd as init and an address of their own, reached by ssh like servers."""

from __future__ import annotations

import concurrent.futures
import hashlib
import ipaddress
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from . import image
from .engine import Engine
from .lab import PREFIX, Lab, free_networks, is_needed

ADMINISTRATOR = "admin"
SHARED = "/mnt/shared"
"""Where every host mounts one folder of this machine, which stands for the storage that a fleet shares."""
READY_WITHIN = 60.0
"""Seconds for a host to boot and answer ssh; it takes 1 to 3 s when the machine has time."""


class Bed:
    """The hosts whose state lies in `folder`; `cache` keeps what outlives them."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder.resolve()
        self._cache = cache
        self._name = hashlib.sha256(str(self.folder).encode()).hexdigest()[:6]
        self._state_file = self.folder / "bed.json"
        self.key = self.folder / "key"
        self.known_hosts = self.folder / "known_hosts"
        self.connections = self.folder / "cp"
        self.shared = self.folder / "shared"

    @property
    def hosts(self) -> dict[str, str]:
        """Name of each host to its address; empty when the bed is down."""
        return dict(self._state().get("hosts", {}))

    def _state(self) -> dict[str, Any]:
        return json.loads(self._state_file.read_text()) if self._state_file.exists() else {}

    def up(self, count: int) -> dict[str, str]:
        """Have `count` hosts that answer ssh: those that are there stay as they are.

        Raises:
            RuntimeError: a host does not answer within READY_WITHIN seconds.
        """
        self.folder.mkdir(exist_ok=True)
        self.shared.mkdir(exist_ok=True)
        state = self._state() or self._begin()
        engine = self._engine(state)
        network = ipaddress.ip_network(state["hosts_network"])
        built = image.ensure(engine, self._cache)
        if not engine.succeeds("network", "inspect", self._name):
            engine.run("network", "create", "--subnet", str(network), *_without_dns(engine), self._name)
        wanted = {f"host{number}": str(network[number + 11]) for number in range(count)}
        hosts = {**state["hosts"], **wanted}
        self._write({**state, "hosts": hosts})
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: self._start(engine, built, name, hosts), hosts))
        self._write_known_hosts(engine, hosts)
        return hosts

    def renew(self, *names: str) -> None:
        """Put bare hosts in the place of those named: the same addresses, new keys, nothing of what was there."""
        state = self._state()
        engine = self._engine(state)
        for name in names:
            engine.remove(self.container(name))
        self.forget_connections()
        self.up(len(state["hosts"]))

    def forget_connections(self) -> None:
        """Have the next command connect anew: ssh would go on using what it left open for a minute."""
        shutil.rmtree(self.connections, ignore_errors=True)

    def down(self) -> None:
        """End every host and take away all that `up` has made, also what an interrupted one left."""
        state = self._state()
        if state:
            engine = self._engine(state)
            for name in state["hosts"]:
                engine.remove(self.container(name))
            engine.succeeds("network", "rm", self._name)
            if state["lab"]:
                Lab(self.folder / "lab", self._name).down()
        shutil.rmtree(self.folder, ignore_errors=True)

    def container(self, host: str) -> str:
        """The container's name, which no other bed on this machine has."""
        return f"{PREFIX}-{self._name}-{host}"

    def engine(self) -> Engine:
        """The engine of a bed that is up."""
        return self._engine(self._state())

    def execute(self, host: str, *argv: str) -> str:
        """Run a command on a host as root, past ssh and firewall; for what tests plant or read."""
        return self.engine().run("exec", self.container(host), *argv)

    def _begin(self) -> dict[str, Any]:
        hosts, way = free_networks()
        state = {"lab": is_needed(), "hosts_network": str(hosts), "hosts": {}}
        self._write(state)
        if state["lab"]:
            Lab(self.folder / "lab", self._name).up(hosts, way)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(self.key)], check=True)
        return state

    def _engine(self, state: dict[str, Any]) -> Engine:
        return Engine(self.folder, Lab(self.folder / "lab", self._name) if state["lab"] else None)

    def _write(self, state: dict[str, Any]) -> None:
        self._state_file.write_text(json.dumps(state, indent=2) + "\n")

    def _start(self, engine: Engine, built: str, name: str, hosts: dict[str, str]) -> None:
        container = self.container(name)
        if not engine.succeeds("container", "inspect", container):
            where = ["--network", self._name, "--ip", hosts[name], "--mac-address", _hardware_address(hosts[name])]
            engine.run(
                "run",
                "--detach",
                "--name",
                container,
                "--hostname",
                name,
                *where,
                f"--volume={self.shared}:{SHARED}",
                *_rights(engine),
                built,
                *_init(engine),
            )
        engine.run("start", container)

        # A name of one's own that leads to the loopback is what Debian's installer sets, and what misleads gloo.
        names = ["127.0.0.1 localhost", f"127.0.1.1 {name}"]
        names += [f"{other_address} {other}" for other, other_address in hosts.items() if other != name]
        self._put(engine, container, "/etc/hosts", "\n".join(names) + "\n", "0644")
        key = self.key.with_suffix(".pub").read_text()
        engine.run("exec", container, "install", "-d", "-o", ADMINISTRATOR, "-m", "0700", f"/home/{ADMINISTRATOR}/.ssh")
        self._put(engine, container, f"/home/{ADMINISTRATOR}/.ssh/authorized_keys", key, "0644")

    @staticmethod
    def _put(engine: Engine, container: str, path: str, text: str, mode: str) -> None:
        script = 'umask 022 && printf %s "$2" >"$1" && chmod "$3" "$1"'
        engine.run("exec", container, "sh", "-c", script, "sh", path, text, mode)

    def _write_known_hosts(self, engine: Engine, hosts: dict[str, str]) -> None:
        """The hosts' own keys, read from inside, so that nothing is trusted on first use."""
        lines = []
        for name, address in hosts.items():
            _wait_for_ssh(name, address)
            key = engine.run("exec", self.container(name), "cat", "/etc/ssh/ssh_host_ed25519_key.pub")
            lines.append(f"{address} {' '.join(key.split()[:2])}\n")
        self.known_hosts.write_text("".join(lines))


def _hardware_address(address: str) -> str:
    """The same for every container that gets this address, so that neighbours need not forget the one before it."""
    return "02:00:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(address).packed)


def _rights(engine: Engine) -> list[str]:
    """What systemd as init and a firewall need. podman knows what systemd wants; docker has to be told."""
    rights = ["--cap-add=NET_ADMIN", "--cap-add=SYS_ADMIN", "--stop-signal=SIGRTMIN+3"]
    if engine.kind == "podman":
        return [*rights, "--systemd=always", "--no-hosts"]
    # Docker's profiles keep systemd from mounting.
    profiles = ["--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"]
    return [*rights, *profiles, "--cgroupns=private", "--tmpfs=/run", "--tmpfs=/run/lock"]


def _init(engine: Engine) -> list[str]:
    """The host's first program; docker mounts the host's control groups read-only."""
    if engine.kind == "podman":
        return []
    return ["sh", "-c", "mount -o remount,rw /sys/fs/cgroup && exec /sbin/init"]


def _without_dns(engine: Engine) -> list[str]:
    return ["--disable-dns"] if engine.kind == "podman" else []


def _wait_for_ssh(name: str, address: str) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while True:
        try:
            with socket.create_connection((address, 22), timeout=2) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError as error:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} ({address}) does not answer ssh within {READY_WITHIN:.0f} s") from error
        time.sleep(0.1)
