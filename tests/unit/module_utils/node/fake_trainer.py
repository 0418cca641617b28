# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for torchrun in the supervisor's tests: `fake_trainer.py HOW [ARGUMENT]`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time


def say(text: str) -> None:
    print(text, flush=True)


def start_worker(*arguments: str, rank: str = "") -> subprocess.Popen[bytes]:
    """As torchrun does: in a session of its own, with its ranks in the environment."""
    rank = rank or os.environ["NODE_RANK"]
    environment = {**os.environ, "RANK": rank, "LOCAL_RANK": "0"}
    return subprocess.Popen([sys.executable, *arguments], env=environment, start_new_session=True)


def on_sigterm(number: int, frame: object) -> None:
    say("got SIGTERM")
    sys.exit(143)


def main(how: str, argument: str = "") -> int:
    signal.signal(signal.SIGTERM, on_sigterm)
    say("started")
    if how == "exit":
        return int(argument)
    if how == "train":  # until the file says with which code to end
        while not os.path.exists(argument):
            time.sleep(0.02)
        with open(argument, encoding="utf-8") as stream:
            return int(stream.read())
    if how == "abandon":  # a grandchild that nobody waits for, and that outlives everybody who does not look for it
        code = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork(); time.sleep(120)"
        worker = start_worker("-c", code)
        say(f"worker {worker.pid}")
        time.sleep(float(argument))
        return 0
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say("deaf")
        time.sleep(120)
    if how == "launch":  # a worker; after its end the launcher takes its time and fails
        worker = start_worker("-c", "import time; time.sleep(120)")
        say(f"worker {worker.pid}")
        worker.wait()
        time.sleep(float(argument))
        return 1
    if how == "restart":  # a worker; after its end another one in its place, until the file says how to end
        worker = start_worker("-c", "import time; time.sleep(120)")
        say(f"worker {worker.pid}")
        worker.wait()
        wait = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.02)"
        return start_worker("-c", wait, argument, rank="7").wait()
    if how == "orphan":  # a worker with a helper that outlives it
        helper = (
            "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(120)'])"
        )
        worker = start_worker("-c", f"{helper}; print('helper', flush=True); time.sleep(120)")
        say(f"worker {worker.pid}")
        worker.wait()
        time.sleep(float(argument))
        return 1
    raise AssertionError(how)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
