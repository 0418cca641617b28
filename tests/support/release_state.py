# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node holds under its root, so that two provisions can be compared. Also run on hosts, as a program."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

NOTES = ("uv_cache.json", "uv_build.json", "RECORD", "CACHEDIR.TAG", ".gpufleet.lock", "gpufleet-digests")


def contents(root: Path) -> dict[str, str]:
    """Each file with its digest and each link with its target, but for what no two builds share.

    That is byte code, uv's, git's and our own notes, when it was completed, and the paths of the node.
    """
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        parts = set(path.parts)
        if parts & {"__pycache__", ".git", "runs"} or path.suffix == ".egg-info" or path.is_dir():
            continue
        if path.name in NOTES:
            continue
        if path.is_symlink():
            found[name] = os.readlink(path).replace(str(root), "")
            continue
        content = path.read_bytes().replace(str(root).encode(), b"")
        if path.name == "release.json":
            content = json.dumps({**json.loads(content), "completed": ""}, sort_keys=True).encode()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


if __name__ == "__main__":
    json.dump(contents(Path(sys.argv[1])), sys.stdout)
