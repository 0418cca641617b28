# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh of made-up fleets, in which tests plant what is wrong, and of real listeners in threads."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import number_ranges
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import mesh_listener
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.mesh_listener import MeshListener, NewRuns

WORD = "0123456789abcdef"


def listeners(plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What port_listener returns on nodes that can all listen."""
    pinned = [plan["master_port"], plan["watch_port"]]
    return {
        node: {
            "listening": [40000 + position, *(pinned if node == plan["head"] else [])],
            "refused": {},
            "word": f"{position:016x}",
            "names": {},
            "listener": [1000 + position, 5],
        }
        for position, node in enumerate(plan["nodes"])
    }


def probes(plan: dict[str, Any], mtu: int = 9000) -> dict[str, dict[str, Any]]:
    """What port_probe returns on nodes that all reach each other."""
    order = list(plan["nodes"])
    pinned = [str(plan["master_port"]), str(plan["watch_port"])]
    found = {}
    for position, node in enumerate(order):
        others = number_ranges.pack(set(range(len(order))) - {position})
        read = [other for other in range(len(order)) if other != position][:8]
        found[node] = {
            "reached": len(order) - 1,
            "failed": {},
            "ports": dict.fromkeys(pinned, "reached"),
            "paths": {str(mtu): others},
            "interfaces": {str(mtu): others},
            "clocks": [[other, 0.0, 0.001] for other in read],
            "names": {"different": {}, "count": 0},
            "seconds": 0.1,
        }
    return found


def fail(plan: dict[str, Any], found: dict[str, dict[str, Any]], said: str, *pairs: tuple[int, int]) -> None:
    """Plant what `said` says of dialling in each of the pairs (positions)."""
    order = list(plan["nodes"])
    for source in {source for source, _target in pairs}:
        probe = found[order[source]]
        targets = {target for by, target in pairs if by == source}
        known = number_ranges.unpack(probe["failed"].get(said, ""))
        probe["failed"][said] = number_ranges.pack({*known, *targets})
        for group in ("paths", "interfaces"):
            left = {value: set(number_ranges.unpack(text)) - targets for value, text in probe[group].items()}
            probe[group] = {value: number_ranges.pack(numbers) for value, numbers in left.items() if numbers}
        probe["clocks"] = [row for row in probe["clocks"] if row[0] not in targets]


@contextmanager
def listening(
    count: int = 1, runs: str = "", lent: int = 0, seconds: float = 60, clock: Callable[[], float] = time.time
) -> Iterator[list[int]]:
    """A real listener on loopback, in a thread that ends with the block; yields its ports, the lent ones last."""
    servers = [mesh_listener.open_port("127.0.0.1", 0) for _number in range(count + lent)]
    ports = [server.getsockname()[1] for server in servers]
    listener = MeshListener(servers[:count], WORD, servers[count:], NewRuns(runs), clock)
    thread = threading.Thread(target=listener.serve, args=(seconds,), daemon=True)
    thread.start()
    try:
        yield ports
    finally:
        listener.deadline = 0.0
        thread.join(30)
        for server in servers:
            server.close()


def read_all(connection: socket.socket) -> bytes:
    """Everything until the other side closes, however it does so."""
    content = b""
    try:
        while piece := connection.recv(65536):
            content += piece
    except ConnectionError:
        pass
    return content
