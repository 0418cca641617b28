# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which connections of a trainer's workers are kept: few, and the same ones on both ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import sockets
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.processes import Identity
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.sockets import Endpoint, TcpSocket
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.trainer import MAX_LINKS, Trainer, Worker

Rows = dict[int, list[TcpSocket]]


def ended_trainer(folder: Path, *ranks: int) -> Trainer:
    """A trainer that has ended, with workers that never were: the pid of rank 3 is 103."""
    trainer = Trainer(["/bin/true"], dict(os.environ), str(folder), str(folder / "log"))
    trainer._process.wait()
    trainer.workers = {100 + rank: Worker(Identity(100 + rank, 1), rank, rank, 29500) for rank in ranks}
    return trainer


def pairs(trainer: Trainer) -> set[frozenset[tuple[str, int]]]:
    return {frozenset((tuple(row["local"]), tuple(row["remote"]))) for row in trainer.connections()}


def test_both_ends_keep_the_same_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = [(Endpoint("10.0.0.1", 20_000 + number), Endpoint("10.0.0.2", 30_000 + number)) for number in range(500)]
    rows: Rows = {
        100: [TcpSocket(one, other, sockets.ESTABLISHED, 1) for one, other in ends],
        101: [TcpSocket(other, one, sockets.ESTABLISHED, 1) for one, other in reversed(ends)],
    }
    monkeypatch.setattr(sockets, "connections_of", lambda pids: {pid: rows[pid] for pid in pids})
    one, other = ended_trainer(tmp_path, 0), ended_trainer(tmp_path, 1)
    assert one.sample_connections()
    assert not one.sample_connections()
    # The other end sees them one part after the other.
    late = rows[101]
    for size in (100, 300, 500):
        rows[101] = late[:size]
        other.sample_connections()
    assert pairs(one) == pairs(other)
    assert len(one.connections()) == len(other.connections()) == MAX_LINKS == 64


def test_each_worker_has_its_own_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = [TcpSocket(Endpoint("10.0.0.1", port), Endpoint("10.0.0.2", port), 1, 1) for port in range(20_000, 20_500)]
    there = TcpSocket(Endpoint("10.0.0.1", 9), Endpoint("10.0.0.3", 9), sockets.ESTABLISHED, 1)
    monkeypatch.setattr(sockets, "connections_of", lambda pids: {100: here, 101: [there]})
    trainer = ended_trainer(tmp_path, 0, 1)
    assert trainer.sample_connections()
    found = trainer.connections()
    assert len(found) == MAX_LINKS + 1
    assert {"rank": 1, "local": ["10.0.0.1", 9], "remote": ["10.0.0.3", 9]} in found


def test_connections_to_the_trainers_store_prove_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With c10d it listens on a port that the kernel chose; what listens there is in the worker's environment."""
    ends = [Endpoint("10.0.0.1", 29_500), Endpoint("10.0.0.2", 30_000), Endpoint("10.0.0.2", 30_001)]
    rows = [TcpSocket(ends[0], ends[1], 1, 1), TcpSocket(ends[1], ends[0], 1, 1), TcpSocket(ends[1], ends[2], 1, 1)]
    monkeypatch.setattr(sockets, "connections_of", lambda pids: dict.fromkeys(pids, rows))
    trainer = ended_trainer(tmp_path, 0)
    assert trainer.sample_connections()
    assert trainer.connections() == [{"rank": 0, "local": list(ends[1]), "remote": list(ends[2])}]
