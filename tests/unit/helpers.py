# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the unit tests share: free ports, waiting for something to happen, and running a module as a real process."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

PLUGINS = "ansible_collections.gpufleet.axolotl.plugins"
PATIENCE = 30.0
"""Seconds that a test waits for something that takes well under one on an idle machine."""

Value = TypeVar("Value")


def free_port() -> int:
    """A port that nobody listens on, outside the range from which the kernel takes those of clients."""
    while True:
        port = random.randint(15000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def wait_for(what: Callable[[], Value], seconds: float = PATIENCE) -> Value:
    """Wait until `what` returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not happen within {seconds} s: the last value was {value!r}")
        time.sleep(0.05)


def run_module(name: str, arguments: Mapping[str, Any], **special: Any) -> dict[str, Any]:
    """Run a module as Ansible does, in a process of its own; `check=True` is check mode."""
    special = {f"_ansible_{key}_mode": value for key, value in special.items()}
    result = subprocess.run(
        [sys.executable, "-m", f"{PLUGINS}.modules.{name}"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, **special}}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    try:
        return json.loads(result.stdout)
    except ValueError:
        raise AssertionError(f"no JSON from {name}: {result.stdout!r} {result.stderr!r}") from None
