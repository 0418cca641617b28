# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolves many names in bounded time, as the programs of this node would (getaddrinfo: hosts file, DNS, LDAP ...)."""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
import time
from collections.abc import Iterable

THREADS = 32


def is_address(text: str) -> bool:
    """Whether it is written as an address, so that there is nothing to resolve."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def resolve(name: str) -> list[str]:
    """The addresses of a name, or of an address itself, in the order in which a program tries them; empty for none."""
    try:
        rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # UnicodeError: a label that is empty or too long
        return []
    return list(dict.fromkeys(str(row[4][0]) for row in rows))


def resolve_all(names: Iterable[str], seconds: float) -> dict[str, list[str]]:
    """Resolve each; a name that takes longer than `seconds` counts as one without an address.

    A resolver that hangs can't be interrupted, so its thread is left behind: it does not keep the process from ending.
    """
    found: dict[str, list[str]] = {name: [] for name in names}
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[str, list[str]]] = queue.SimpleQueue()
    for name in found:
        waiting.put(name)

    def work() -> None:
        while True:
            try:
                name = waiting.get_nowait()
            except queue.Empty:
                return
            done.put((name, resolve(name)))

    for _number in range(min(THREADS, len(found))):
        threading.Thread(target=work, daemon=True).start()
    deadline = time.monotonic() + seconds
    for _number in range(len(found)):
        try:
            name, addresses = done.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        found[name] = addresses
    return found
