# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job on this machine: provision two nodes, examine them, and launch a real Axolotl training on both."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from local_nodes import INVENTORY, PROJECT, prepare


def main() -> int:
    begin = time.monotonic()
    print("== prepare: Axolotl's repository and a tiny model, all under .demo", flush=True)
    prepare()
    for verb in ("provision", "preflight", "launch"):
        print(f"\n== ansible-playbook -i inventories/local gpufleet.axolotl.{verb}", flush=True)
        playbook = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(INVENTORY)]
        done = subprocess.run([*playbook, f"gpufleet.axolotl.{verb}"], check=False, cwd=PROJECT)
        if done.returncode:
            return done.returncode
    artifact = json.loads((PROJECT / "artifacts" / "launch.json").read_text())
    print(f"\nVerdict: artifacts/launch.json; report: artifacts/{artifact['run_id']}/report.md")
    print(f"The demo took {time.monotonic() - begin:.0f} s.")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # the tool has said why
