# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold of the InfiniBand and RoCE adapters that carry the training, and of what they need: a table of rules.

NCCL passes over a port that is not active without a word, and trains with fewer adapters or over plain sockets. So a
port counts as wanted when the inventory names it, or when it is active on at least half of the nodes. A port that no
node uses, such as the second one of an adapter, is nobody's fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from . import data_network
from .comparison import by_value
from .data_network import ETHERNET, Fabric, Fingerprints, Plan, Port
from .findings import GIB, WARNING, Finding, names

Lacking = Mapping[str, "Lacks"]
Rule = Callable[[Plan, Fingerprints, Fabric, Lacking], Iterator[Finding]]

LEAST_MEMLOCK = GIB
"""Bytes. The usual defaults, 64 KiB and 8 MiB, don't suffice for one connection: NCCL pins a buffer of 4 MiB for each
channel and peer (NCCL_BUFFSIZE). Above this a limit can do, but nobody can say for how many peers."""
FLAPPING = ("link_downed", "link_error_recovery")
"""Counters that rise when the link itself is lost, for a moment or for good."""
ELSEWHERE = "if the training is not meant to use it, name the adapters that it uses in axolotl_hcas ([] for none)"


def examine(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    """Hold every rule against the fleet."""
    fabric = data_network.fabric(plan, fingerprints)
    lacking = lacks(fabric)
    for rule in RULES:
        yield from rule(plan, fingerprints, fabric, lacking)


class Lacks:
    """What a node lacks of the ports that it should have.

    Attributes:
        down: ports that are there and not active.
        other_layer: ports that are active on the other link layer.
        unaddressed: RoCE ports that are active and carry no address for the training.
        absent: names of adapters or ports that are not there.
    """

    def __init__(self) -> None:
        self.down: list[Port] = []
        self.other_layer: list[Port] = []
        self.unaddressed: list[Port] = []
        self.absent: list[str] = []


def lacks(fabric: Fabric) -> dict[str, Lacks]:
    """What each node lacks."""
    keys, most = fabric.expected()
    found = {}
    for node, said in fabric.selections.items():
        if said.names and said.names.names_each:
            found[node] = _lacks_named(fabric, node, said.names.entries)
        else:
            found[node] = _lacks_of_peers(fabric, node, keys, most)
    return found


def _lacks_named(fabric: Fabric, node: str, entries: tuple[tuple[str, int | None], ...]) -> Lacks:
    """An adapter that is named without a port is fine with one of its ports."""
    lacking = Lacks()
    for hca, number in entries:
        ports = [port for port in fabric.ports[node].values() if port.hca == hca and number in (None, port.number)]
        if not ports:
            lacking.absent.append(hca if number is None else f"{hca} port {number}")
        elif not any(port in fabric.usable[node] for port in ports):
            _sort_out(lacking, fabric, ports)
    return lacking


def _lacks_of_peers(fabric: Fabric, node: str, keys: list[tuple[str, int]], most: int) -> Lacks:
    lacking, here = Lacks(), fabric.ports[node]
    usable = {port.key for port in fabric.usable[node]}
    wanted = [key for key in keys if key not in usable]
    _sort_out(lacking, fabric, [here[key] for key in wanted if key in here])
    known = len(usable) + len(lacking.down) + len(lacking.other_layer) + len(lacking.unaddressed)
    # Adapters have other names here: what counts is how many there are.
    absent = [f"{hca} port {number}" for hca, number in wanted if (hca, number) not in here]
    short = (absent and known < most) or not known
    spare = [port for port in fabric.chosen[node] if not port.active and port not in lacking.down]
    if short and spare:
        _sort_out(lacking, fabric, spare)
    elif short and (absent or fabric.selections[node].required):
        lacking.absent += absent or [fabric.selections[node].source]
    return lacking


def _sort_out(lacking: Lacks, fabric: Fabric, ports: list[Port]) -> None:
    for port in ports:
        if fabric.link_layer and port.facts["link_layer"] != fabric.link_layer:
            lacking.other_layer.append(port)
        elif not port.active:
            lacking.down.append(port)
        else:
            lacking.unaddressed.append(port)


def _down(plan: Plan, fingerprints: Fingerprints, fabric: Fabric, lacking: Lacking) -> Iterator[Finding]:
    found = [
        (node, (port.label, port.facts["state"], port.facts["phys_state"], port.facts["link_layer"]))
        for node, lack in lacking.items()
        for port in lack.down
    ]
    for (label, state, phys_state, layer), nodes in by_value(found).items():
        remedy = f"{_why_down(state, phys_state, layer)}; {ELSEWHERE}"
        found_state = f"state {state}, physical state {phys_state}"
        yield Finding("ib_port_down", nodes, f"{label} is ACTIVE", found_state, remedy)


def _why_down(state: str | None, phys_state: str | None, link_layer: str) -> str:
    if phys_state == "LinkUp" and state in ("INIT", "ARMED"):
        return "the link is up, but no subnet manager has configured the port: see that one runs on the fabric (sminfo)"
    if phys_state == "Disabled":
        up = "ip link set its interface up" if link_layer == ETHERNET else "ibportstate, or the switch, enables it"
        return f"the port is switched off: {up}"
    return "check the cable and its connectors, the port of the switch, and that port's settings"


def _link_layer(plan: Plan, fingerprints: Fingerprints, fabric: Fabric, lacking: Lacking) -> Iterator[Finding]:
    found = [
        (node, (port.label, port.facts["link_layer"])) for node, lack in lacking.items() for port in lack.other_layer
    ]
    for (label, layer), nodes in by_value(found).items():
        expected = f"{label} has link layer {fabric.link_layer}, like the others that carry the training"
        remedy = f"set the adapter's LINK_TYPE_P1 or _P2 (mlxconfig) and restart the host; {ELSEWHERE}"
        yield Finding("ib_link_layer", nodes, expected, layer, remedy)


def _absent(plan: Plan, fingerprints: Fingerprints, fabric: Fabric, lacking: Lacking) -> Iterator[Finding]:
    found = []
    for node, lack in lacking.items():
        if lack.absent and not fingerprints[node]["infiniband"]["unclaimed"]:  # else a driver is missing, which is said
            present = sorted({port.hca for port in fabric.ports[node].values()})
            found.append((node, (", ".join(lack.absent), names(present) if present else "none")))
    for (absent, there), nodes in by_value(found).items():
        remedy = (
            "see that the adapter is seated and its driver loaded (lspci; modprobe mlx5_ib), or name the adapters that "
            "these nodes use in axolotl_hcas ([] for none)"
        )
        yield Finding("ib_hca_missing", nodes, f"adapters for {absent}", f"adapters: {there}", remedy)


def _modules(plan: Plan, fingerprints: Fingerprints, fabric: Fabric, lacking: Lacking) -> Iterator[Finding]:
    unclaimed = [
        (node, address) for node in fabric.selections for address in fingerprints[node]["infiniband"]["unclaimed"]
    ]
    for address, nodes in by_value(unclaimed).items():
        yield Finding(
            "ib_module_missing",
            nodes,
            "a driver for each InfiniBand controller",
            f"{address} has none that makes an adapter of it",
            "modprobe mlx5_ib; where there is no such module, provision with infiniband_provider: inbox or doca, or "
            "install the modules of the running kernel (on Ubuntu linux-modules-extra)",
        )
    without = [node for node, ports in fabric.usable.items() if ports and not fingerprints[node]["infiniband"]["verbs"]]
    if without and plan["accelerator"] == "cuda":
        expected = "module ib_uverbs, through which programs reach the adapters"
        remedy = "provision with infiniband_provider: inbox or doca; or install rdma-core and modprobe ib_uverbs"
        yield Finding("ib_module_missing", tuple(without), expected, "it is not loaded", remedy)


def _rate(plan: Plan, fingerprints: Fingerprints, fabric: Fabric, lacking: Lacking) -> Iterator[Finding]:
    rates = Counter(port.facts["gbits"] for ports in fabric.usable.values() for port in ports if port.facts["gbits"])
    usual = max(rates, key=lambda rate: (rates[rate], rate), default=0)
    slow = [
        (node, (port.label, port.facts["rate"]))
        for node, ports in fabric.usable.items()
        for port in ports
        if (port.facts["gbits"] or usual) < usual
    ]
    expected = "{} runs at " + f"{usual:g} Gb/sec, as most ports do"
    remedy = "clean, reseat or replace the cable; see that both ends allow the rate and the full width"
    on_purpose = [(node, found) for node, found in slow if plan["nodes"][node]["hcas"]]
    unmeant = [(node, found) for node, found in slow if not plan["nodes"][node]["hcas"]]
    for (label, rate), nodes in by_value(unmeant).items():
        meant = f"{remedy}; if these nodes are slower on purpose, name their adapters in axolotl_hcas"
        yield Finding("ib_rate_low", nodes, expected.format(label), str(rate), meant)
    for (label, rate), nodes in by_value(on_purpose).items():
        yield Finding("ib_rate_low", nodes, expected.format(label), str(rate), remedy, WARNING)


def _errors(plan: Plan, fingerprints: Fingerprints, fabric: Fabric, lacking: Lacking) -> Iterator[Finding]:
    flapping: list[tuple[str, tuple[str, str]]] = []
    rising: list[tuple[str, tuple[str, str]]] = []
    for node, ports in fabric.usable.items():
        counters = fingerprints[node]["infiniband"]["counters"]
        for port in ports:
            risen = counters["rising"].get(port.hca, {}).get(str(port.number), {})
            if risen:
                said = ", ".join(f"{name} by {count}" for name, count in sorted(risen.items()))
                kind = flapping if set(risen) & set(FLAPPING) else rising
                kind.append((node, (port.label, f"{said} within {counters['seconds']:.1f} s")))
    expected, remedy = "{}: no error counter rises", "clean, reseat or replace the cable; then look again"
    for (label, said), nodes in by_value(flapping).items():
        yield Finding("ib_errors", nodes, expected.format(label), said, f"the link is lost at times: {remedy}")
    for (label, said), nodes in by_value(rising).items():
        yield Finding("ib_errors", nodes, expected.format(label), said, remedy, WARNING)


def _gids(plan: Plan, fingerprints: Fingerprints, fabric: Fabric, lacking: Lacking) -> Iterator[Finding]:
    """Over RoCE a port is reached by the GID of an address; NCCL takes the one that NCCL_IB_GID_INDEX names."""
    found = []
    for node, lack in lacking.items():
        found += [(node, (port.label, "any")) for port in lack.unaddressed]
        index = data_network.environment(plan, node).get("NCCL_IB_GID_INDEX", "")
        for port in fabric.usable[node] if fabric.link_layer == ETHERNET else []:
            there = {str(gid["index"]) for gid in port.gids}
            if not there or (index.isdigit() and index not in there):
                found.append((node, (port.label, index if index.isdigit() and there else "any")))
    for (label, index), nodes in by_value(found).items():
        which = "a RoCE v2 GID with an IP address" if index == "any" else f"RoCE v2 GID {index} (NCCL_IB_GID_INDEX)"
        remedy = "give the adapter's interface an address on the data network"
        if index != "any":
            remedy = "leave NCCL_IB_GID_INDEX unset: it is derived on each node"
        yield Finding("roce_gid_missing", nodes, f"{label} has {which}", "it has not", f"{remedy}; {ELSEWHERE}")


def _memlock(plan: Plan, fingerprints: Fingerprints, fabric: Fabric, lacking: Lacking) -> Iterator[Finding]:
    """RDMA pins memory. On CPU the trainers talk over sockets, which don't."""
    low: list[tuple[str, tuple[str, str]]] = []
    limited: list[tuple[str, tuple[str, str]]] = []
    for node, ports in fabric.usable.items():
        limits = fingerprints[node]["limits"]
        if not ports or plan["accelerator"] != "cuda":
            continue
        if not limits["memlock"]:
            low.append((node, (limits["context"], limits["error"] or "it could not be read")))
        elif limits["memlock"]["soft"] != "unlimited":
            size = limits["memlock"]["soft"]
            (low if size < LEAST_MEMLOCK else limited).append((node, (limits["context"], _size(size))))
    for (context, size), nodes in by_value(low).items():
        yield Finding("memlock_low", nodes, *_memlock_words(context, size))
    for (context, size), nodes in by_value(limited).items():
        yield Finding("memlock_low", nodes, *_memlock_words(context, size), WARNING)


def _memlock_words(context: str, found: str) -> tuple[str, str, str]:
    where = {
        "systemd": "provision with infiniband_provider: inbox or doca; or LimitMEMLOCK=infinity in a drop-in for "
        "user@.service, daemon-reload, and a restart of the account's user@UID.service, which can't give a unit more "
        "than it has",
        "process": "provision with infiniband_provider: inbox or doca; or unlimited soft and hard memlock for the "
        "account in /etc/security/limits.d; then a new login: end the SSH connections that Ansible keeps open",
    }
    return f"an unlimited memlock limit where trainers start ({context})", found, where[context]


def _size(size: int) -> str:
    return f"{size / GIB:g} GiB" if size >= GIB else f"{size >> 10} KiB"


def _gpudirect(plan: Plan, fingerprints: Fingerprints, fabric: Fabric, lacking: Lacking) -> Iterator[Finding]:
    found = []
    for node, ports in fabric.usable.items():
        way = fingerprints[node]["infiniband"]["gpudirect"]
        if plan["accelerator"] != "cuda" or not ports or not way or way["peermem"]:
            continue
        if not way["dmabuf"]:
            found.append((node, "no nvidia-peermem, and a kernel without DMA-BUF for RDMA"))
        elif way["open_driver"] is False:
            found.append((node, "no nvidia-peermem, and a driver that is not the open one, which DMA-BUF needs"))
    for said, nodes in by_value(found).items():
        expected = "a direct way between GPU and adapter: DMA-BUF or nvidia-peermem"
        remedy = "use NVIDIA's open kernel module with kernel 5.12 or newer, or modprobe nvidia-peermem"
        yield Finding("gpudirect_missing", nodes, expected, said, remedy, WARNING)


def _unread(plan: Plan, fingerprints: Fingerprints, fabric: Fabric, lacking: Lacking) -> Iterator[Finding]:
    found = [
        (node, error) for node in fabric.selections for error in [fingerprints[node]["infiniband"]["error"]] if error
    ]
    for error, nodes in by_value(found).items():
        remedy = "see to the adapter (dmesg): its driver or firmware does not answer; a restart of the host often helps"
        yield Finding("ib_unreadable", nodes, "adapters that answer", error, remedy)


RULES: tuple[Rule, ...] = (
    _unread,
    _modules,
    _absent,
    _down,
    _link_layer,
    _rate,
    _errors,
    _gids,
    _memlock,
    _gpudirect,
)
