# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated InfiniBand fabric on test hosts: one switch, and an adapter with one port in each host.

ibsim simulates the fabric on one host, with opensm as its subnet manager. A program on any host that is started with
libumad2sim finds that host's adapter, so that ibstat, ibhosts, ibqueryerrors, perfquery and the like answer. There are
no verbs: what moves data (perftest, ibping) does not work.

The kernel knows nothing of it. What reads sysfs is shown a copy of the tree that libumad2sim makes for its programs, on
a file system of its own over /sys/class: see `show`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from tools.hosts.bed import Bed

LIBRARY = "/usr/lib/x86_64-linux-gnu/umad2sim/libumad2sim.so"
FOLDER = "/run/fabric"
UNITS = ("fabric-opensm", "fabric-ibsim")
TOOLS = ("libumad2sim0", "infiniband-diags")
SIMULATOR = ("ibsim-utils", "opensm")

# The console is a pipe of which the simulator holds both ends itself: at the end of its input it would spin.
_START = f"""set -e
mkdir -p {FOLDER} && cd {FOLDER}
printf %s "$1" >topology
rm -f console && mkfifo console
systemd-run --quiet --collect --unit=fabric-ibsim --working-directory={FOLDER} \\
    sh -c 'exec 9<>console; exec ibsim -r -s topology <&9 >ibsim.log 2>&1'
for attempt in $(seq 100); do grep -qs ready ibsim.log && break; sleep 0.1; done
systemctl disable --quiet --now opensm.service
systemd-run --quiet --collect --unit=fabric-opensm --working-directory={FOLDER} --setenv=LD_PRELOAD={LIBRARY} \\
    "--setenv=IBSIM_SERVER_NAME=$3" "--setenv=SIM_HOST=$2" opensm --log_file {FOLDER}/opensm.log
"""

# Everything that was in /sys/class stays: each folder of it is bound to its place on the new file system.
_MOUNT = """set -e
[ -e /sys/class/infiniband ] && exit 0
mkdir -p /run/fabric/class
mount --bind /sys/class /run/fabric/class
mount -t tmpfs -o mode=755 tmpfs /sys/class
for folder in /run/fabric/class/*/; do
    name=${folder%/} name=${name##*/}
    mkdir "/sys/class/$name" && mount --bind "/run/fabric/class/$name" "/sys/class/$name"
done
mkdir /sys/class/infiniband
"""

# libumad2sim makes its tree below the working directory of each program, takes it away when the program ends, and leads
# the program itself there when it opens /sys/class/infiniband: hence two programs.
_COPY = """
import os, re, shutil, subprocess, sys
simulated = dict(os.environ, LD_PRELOAD=sys.argv[1], IBSIM_SERVER_NAME=sys.argv[2], SIM_HOST=sys.argv[3])
hold = "import os, sys; os.listdir('/sys/class/infiniband'); print(flush=True); sys.stdin.read()"
pipe = subprocess.PIPE
holder = subprocess.Popen(["python3", "-c", hold], stdin=pipe, stdout=pipe, env=simulated, cwd="/run/fabric")
try:
    holder.stdout.readline()
    shutil.copytree(f"/run/fabric/sys-{holder.pid}/sys/class/infiniband", "/run/fabric/tree", dirs_exist_ok=True)
finally:
    holder.communicate()
names = dict(pair.split("=") for pair in sys.argv[4].split())
said = subprocess.run(["perfquery"], capture_output=True, text=True, env=simulated).stdout
counters = {names[name]: value for name, value in re.findall(r"^(\\w+):\\.+(\\d+)$", said, re.M) if name in names}
for hca in os.listdir("/run/fabric/tree"):
    port = f"/run/fabric/tree/{hca}/ports/1"
    os.makedirs(f"{port}/counters", exist_ok=True)
    files = {f"counters/{name}": value for name, value in counters.items()}
    for name, value in {"link_layer": "InfiniBand", **files}.items():
        with open(f"{port}/{name}", "w") as stream:
            stream.write(value + "\\n")
shutil.copytree("/run/fabric/tree", "/sys/class/infiniband", dirs_exist_ok=True)
"""

# perfquery's names of counters to the kernel's (Documentation/ABI/stable/sysfs-class-infiniband).
COUNTERS = {
    "SymbolErrorCounter": "symbol_error",
    "LinkErrorRecoveryCounter": "link_error_recovery",
    "LinkDownedCounter": "link_downed",
    "PortRcvErrors": "port_rcv_errors",
    "PortRcvRemotePhysicalErrors": "port_rcv_remote_physical_errors",
    "PortRcvSwitchRelayErrors": "port_rcv_switch_relay_errors",
    "PortXmitDiscards": "port_xmit_discards",
    "PortXmitConstraintErrors": "port_xmit_constraint_errors",
    "PortRcvConstraintErrors": "port_rcv_constraint_errors",
    "LocalLinkIntegrityErrors": "local_link_integrity_errors",
    "ExcessiveBufferOverrunErrors": "excessive_buffer_overrun_errors",
    "VL15Dropped": "VL15_dropped",
    "PortXmitData": "port_xmit_data",
    "PortRcvData": "port_rcv_data",
    "PortXmitPkts": "port_xmit_packets",
    "PortRcvPkts": "port_rcv_packets",
    "PortXmitWait": "port_xmit_wait",
}


class Fabric:
    """Hosts of a bed on one switch; the first of them runs the simulator and the subnet manager."""

    def __init__(self, bed: Bed, hosts: list[str]) -> None:
        self._bed = bed
        self.hosts = hosts
        self._server = hosts[0]
        # Also for the programs beside it: a socket that has once talked over loopback reaches nobody else.
        self._address = bed.hosts[hosts[0]]

    def up(self) -> None:
        """Install what is missing, and start. Ports become active within some seconds: see `wait_active`."""
        for host in self.hosts:
            packages = [*TOOLS, *(SIMULATOR if host == self._server else [])]
            present = f"dpkg-query --show {' '.join(packages)} >/dev/null 2>&1"
            install = f"apt-get update && apt-get install --yes --no-install-recommends {' '.join(packages)}"
            self._bed.execute(host, "sh", "-c", f"{present} || {{ {install}; }}")
            self._bed.execute(host, "mkdir", "-p", FOLDER)
        self._bed.execute(self._server, "sh", "-c", _START, "sh", self.topology(), self._server, self._address)

    def down(self) -> None:
        """End simulator and subnet manager, and show the kernel's own /sys/class again."""
        for unit in UNITS:
            self._bed.execute(self._server, "sh", "-c", f"systemctl stop {unit} 2>/dev/null || true")
        for host in self.hosts:
            script = f"if [ -e /sys/class/infiniband ]; then umount -R /sys/class; umount {FOLDER}/class; fi"
            self._bed.execute(host, "sh", "-c", f"{script}; rm -rf {FOLDER}")

    def topology(self) -> str:
        """ibsim's file: node type, number of ports, name; then a line for each port that is connected."""
        ports = "".join(f'[{number}]\t"{host}"[1]\n' for number, host in enumerate(self.hosts, start=1))
        adapters = "".join(
            f'\nHca\t1 "{host}"\n[1]\t"switch"[{number}]\n' for number, host in enumerate(self.hosts, start=1)
        )
        return f'Switch\t{max(8, len(self.hosts))} "switch"\n{ports}{adapters}'

    def run(self, host: str, *argv: str) -> str:
        """What a tool says that finds the host's simulated adapter; some exit with 1 when they find errors."""
        environment = [f"LD_PRELOAD={LIBRARY}", f"IBSIM_SERVER_NAME={self._address}", f"SIM_HOST={host}"]
        path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        script = ["sh", "-c", '"$@" 2>&1 || true', "sh"]
        return self._bed.execute(host, "env", "-C", FOLDER, path, *script, "env", *environment, *argv)

    def wait_active(self, host: str, seconds: float = 30.0) -> None:
        """Wait until the subnet manager has made the host's port active."""
        deadline = time.monotonic() + seconds
        while "State: Active" not in (said := self.run(host, "ibstat")):
            assert time.monotonic() < deadline, said
            time.sleep(0.3)

    def unplug(self, host: str) -> None:
        """Take the cable out: the port is Down and polls from then on."""
        self._console(f'Unlink "{host}"[1]')

    def plug(self, host: str) -> None:
        """Put it in again; the subnet manager makes the port active at its next sweep (10 s)."""
        self._console(f'ReLink "{host}"[1]')

    def show(self, *hosts: str) -> None:
        """Show the adapter under /sys/class/infiniband as it is now; again after each change of the fabric.

        Beside libumad2sim's files there are link_layer, and counters as perfquery reads them.
        """
        names = " ".join(f"{name}={file}" for name, file in COUNTERS.items())
        for host in hosts or self.hosts:
            self._bed.execute(host, "sh", "-c", _MOUNT)
            self._bed.execute(host, "python3", "-c", _COPY, LIBRARY, self._address, host, names)

    def plant(self, host: str, file: str, value: str) -> None:
        """Change a file of the shown port (counters/symbol_error, rate ...) until the next `show`."""
        script = 'for port in /sys/class/infiniband/*/ports/1; do printf "%s\\n" "$2" >"$port/$1"; done'
        self._bed.execute(host, "sh", "-c", script, "sh", file, value)

    def _console(self, command: str) -> None:
        self._bed.execute(self._server, "sh", "-c", f'printf "%s\\n" "$1" >{FOLDER}/console', "sh", command)


@contextlib.contextmanager
def simulated(bed: Bed, hosts: list[str]) -> Iterator[Fabric]:
    """A fabric for as long as it is used."""
    fabric = Fabric(bed, hosts)
    try:
        fabric.up()
        yield fabric
    finally:
        fabric.down()
