# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of a fingerprint, held against each node's once, so that the rules can take it for granted.

A fingerprint comes from a node: one that runs other code than this, or is not what it seems, can send anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .findings import Finding
from .readings import Readings, read
from .shape import (
    FLAG,
    FLAG_OR_NONE,
    TEXT,
    TEXT_OR_NONE,
    address,
    count,
    either,
    interface_address,
    mapping,
    one_of,
    optional,
    pair,
    quantity,
    record,
    sequence,
)

NAME_MAX = 255
"""Characters; the name of an adapter is one of a file (limits.h)."""

_COUNT_OR_NONE = optional(count)
_TEXTS = sequence(TEXT)
_OF_TEXTS = mapping(TEXT)

_RELEASE = record(
    path=TEXT,
    exists=FLAG,
    sealed=FLAG,
    problems=_TEXTS,
    commit=TEXT_OR_NONE,
    dirty=_TEXTS,
    dirty_count=count,
    submodules=sequence(record(path=TEXT, commit=TEXT)),
    lock_sha256=TEXT_OR_NONE,
    packages=record(
        missing=_OF_TEXTS,
        extra=_OF_TEXTS,
        different=mapping(record(locked=TEXT, installed=TEXT)),
        damaged=_OF_TEXTS,
        edited=_OF_TEXTS,
    ),
    python_version=TEXT_OR_NONE,
    torch_version=TEXT_OR_NONE,
    unknown_options=_TEXTS,
    error=TEXT_OR_NONE,
)

_GPU = record(
    index=count,
    name=TEXT_OR_NONE,
    uuid=TEXT_OR_NONE,
    memory_mib=_COUNT_OR_NONE,
    memory_used_mib=_COUNT_OR_NONE,
    ecc=TEXT_OR_NONE,
    mig=TEXT_OR_NONE,
    persistence=TEXT_OR_NONE,
    performance_state=TEXT_OR_NONE,
    pcie=record(
        width=_COUNT_OR_NONE, width_max=_COUNT_OR_NONE, generation=_COUNT_OR_NONE, generation_max=_COUNT_OR_NONE
    ),
    remap_pending=FLAG,
    remap_failed=FLAG,
    throttle=_TEXTS,
    fabric=TEXT_OR_NONE,
    processes=sequence(record(pid=count, name=TEXT_OR_NONE)),
)

_DISK = optional(record(path=TEXT, free_bytes=count))

_INPUT = record(
    path=TEXT,
    kind=TEXT,
    exists=FLAG,
    digest=TEXT,
    data_digest=TEXT,
    files=count,
    size=count,
    problems=_TEXTS,
    newest_ns=count,
    revision=TEXT,
)

_PREPARED = record(
    path=TEXT,
    folders=mapping(record(digest=TEXT, files=count, size=count, newest_ns=count, record=TEXT, problems=_TEXTS)),
    record=either(one_of({}), record(inputs=_OF_TEXTS, config=TEXT)),
    error=TEXT_OR_NONE,
)

_NAME = record(name=TEXT, resolved=sequence(address), error=TEXT_OR_NONE, interface=TEXT_OR_NONE)

_NETWORK = record(
    interfaces=mapping(
        record(
            addresses=sequence(interface_address),
            mtu=_COUNT_OR_NONE,
            state=TEXT_OR_NONE,
            up=FLAG,
            loopback=FLAG,
            kind=TEXT,
        )
    ),
    default_route=TEXT_OR_NONE,
    login=TEXT_OR_NONE,
    address=_NAME,
    head=_NAME,
    error=TEXT_OR_NONE,
)

_LIMIT = either(one_of("unlimited"), count)
_LIMITS = optional(record(soft=_LIMIT, hard=_LIMIT))

_PORT = record(
    state=TEXT_OR_NONE,
    phys_state=TEXT_OR_NONE,
    rate=TEXT_OR_NONE,
    gbits=optional(quantity),
    link_layer=TEXT_OR_NONE,
    gids=sequence(record(index=count, address=address, type=TEXT_OR_NONE, netdev=TEXT_OR_NONE)),
)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) <= len(str(1 << 32))


def _is_short(name: str) -> bool:
    return len(name) <= NAME_MAX


_INFINIBAND = record(
    hcas=mapping(record(firmware=TEXT_OR_NONE, kind=TEXT_OR_NONE, ports=mapping(_PORT, _is_number)), _is_short),
    verbs=FLAG,
    unclaimed=_TEXTS,
    gpudirect=optional(record(peermem=FLAG, dmabuf=FLAG, open_driver=FLAG_OR_NONE)),
    stack=record(name=TEXT_OR_NONE, version=TEXT_OR_NONE, error=TEXT_OR_NONE),
    counters=record(seconds=quantity, rising=mapping(mapping(mapping(count)))),
    error=TEXT_OR_NONE,
)

FINGERPRINT = record(
    machine=record(identity=TEXT, hostname=TEXT, uid=count),
    system=record(
        kernel=TEXT_OR_NONE, os=TEXT_OR_NONE, glibc=TEXT_OR_NONE, architecture=TEXT_OR_NONE, error=TEXT_OR_NONE
    ),
    storage=optional(
        record(
            exists=FLAG, seen=FLAG, writable=FLAG, owner=_COUNT_OR_NONE, uid=_COUNT_OR_NONE, file_system=TEXT_OR_NONE
        )
    ),
    release=_RELEASE,
    config=record(path=TEXT, sha256=TEXT_OR_NONE, content=TEXT_OR_NONE, elsewhere=TEXT_OR_NONE, error=TEXT_OR_NONE),
    schema=record(keys=optional(mapping(_TEXTS)), refused=sequence(pair), foreign_plugins=_TEXTS, error=TEXT_OR_NONE),
    base_model=record(
        layers=_TEXTS, classes=_TEXTS, bytes=_COUNT_OR_NONE, parameters=_COUNT_OR_NONE, error=TEXT_OR_NONE
    ),
    accelerate=record(default_config=TEXT_OR_NONE, error=TEXT_OR_NONE),
    devices=record(kind=TEXT, count=count, error=TEXT_OR_NONE),
    gpus=record(
        driver=TEXT_OR_NONE,
        cuda=TEXT_OR_NONE,
        nvswitch=FLAG_OR_NONE,
        fabric_manager=TEXT_OR_NONE,
        devices=sequence(_GPU),
        error=TEXT_OR_NONE,
    ),
    libraries=record(
        torch_cuda=TEXT_OR_NONE,
        cuda_runtime=TEXT_OR_NONE,
        cudnn=TEXT_OR_NONE,
        nccl=optional(record(version=TEXT_OR_NONE, path=TEXT_OR_NONE)),
        error=TEXT_OR_NONE,
    ),
    nccl=record(settings=optional(mapping(record(value=TEXT, source=TEXT))), error=TEXT_OR_NONE),
    room=record(
        output_dir=_DISK,
        root=_DISK,
        shm=optional(record(size_bytes=count, free_bytes=count)),
        memory=optional(record(total_bytes=count, available_bytes=count)),
        neighbours=record(ipv4=_COUNT_OR_NONE, ipv6=_COUNT_OR_NONE),
        error=TEXT_OR_NONE,
    ),
    inputs=mapping(_INPUT),
    prepared=optional(_PREPARED),
    ports=mapping(record(free=FLAG, holder=optional(record(pid=_COUNT_OR_NONE, command=TEXT_OR_NONE))), _is_number),
    active_runs=_OF_TEXTS,
    network=_NETWORK,
    limits=record(
        context=one_of("systemd", "process"),
        memlock=_LIMITS,
        open_files=_LIMITS,
        error=TEXT_OR_NONE,
    ),
    infiniband=_INFINIBAND,
    errors=_OF_TEXTS,
)
"""What the rules read of a fingerprint; the module node_fingerprint documents the whole of it."""


def fingerprints(results: Mapping[str, Mapping[str, Any] | None]) -> Readings:
    """The fingerprints of the nodes that gave one, and a finding for each way in which others departed from its shape.

    Args:
        results: node to what the task with node_fingerprint returned, None where it was not run.
    """
    found = read(results, "fingerprint", "reading the node")
    misfits: dict[str, list[str]] = {}
    for node, value in found.values.items():
        where = FINGERPRINT(value)
        if where is not None:
            misfits.setdefault(where.lstrip("."), []).append(node)
    remedy = (
        "see what these nodes run in place of this collection's module (ansible_python_interpreter, a wrapper around "
        "it); run with -vvv for what they sent"
    )
    invalid = [
        Finding(
            "fingerprint_invalid",
            tuple(nodes),
            "what node_fingerprint returns",
            f"it is not so at {where or 'all'}",
            remedy,
        )
        for where, nodes in misfits.items()
    ]
    without = {node for nodes in misfits.values() for node in nodes}
    fit = {node: value for node, value in found.values.items() if node not in without}
    return Readings(fit, [*found.findings, *invalid])
