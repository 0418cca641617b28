# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs something in a process that outlives the module, with a session of its own and none of the module's pipes."""

from __future__ import annotations

import os
from typing import Callable

from . import processes


def detach(work: Callable[[], None]) -> processes.Identity:
    """Do `work` in the background, and say which process does it."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        pid = os.fork()
        if pid:
            os.write(writer, str(pid).encode())
            os._exit(0)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.close(writer)
        try:
            work()
        finally:
            os._exit(0)
    os.close(writer)
    os.wait()
    pid = int(os.read(reader, 32))
    os.close(reader)
    process = processes.read_process(pid)
    return process.identity if process else processes.Identity(pid, 0)
