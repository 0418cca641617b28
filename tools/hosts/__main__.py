# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings test hosts up or takes them down: `python -m tools.hosts up --count 4`, `python -m tools.hosts down`."""

from __future__ import annotations

import argparse
import subprocess
import sys

from . import BED
from .inventory import write_inventory
from .requirements import missing


def main() -> int:
    parser = argparse.ArgumentParser(prog="hosts", description="Test hosts with systemd, ssh and an own address.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="have hosts that answer ssh, and an inventory of them")
    up.add_argument("--count", type=int, default=3, help="how many hosts (1 to 200)")
    up.add_argument("--strangers", type=int, default=0, help="how many of them, the last, are no nodes of the fleet")
    verbs.add_parser("down", help="take the hosts and all that belongs to them away")
    verbs.add_parser("check", help="say whether this machine can have hosts")
    options = parser.parse_args()
    if options.verb == "down":
        BED.down()
        return 0
    lacking = missing()
    if lacking:
        print(lacking, file=sys.stderr)
        return 1
    if options.verb == "check":
        return 0
    if not 1 <= options.count <= 200:
        parser.error(f"--count must be from 1 to 200, found {options.count}")
    if not 0 <= options.strangers < options.count:
        parser.error(f"--strangers must be from 0 to {options.count - 1}, found {options.strangers}")
    hosts = BED.up(options.count)
    inventory = write_inventory(BED, options.strangers)
    print(f"{len(hosts)} hosts ({', '.join(f'{name} {address}' for name, address in hosts.items())})")
    print(f"inventory: {inventory}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (subprocess.CalledProcessError, RuntimeError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
