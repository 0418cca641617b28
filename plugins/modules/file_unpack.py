#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: file_unpack
short_description: Unpacks what is missing of a tree from an archive, and removes the archive
version_added: 0.1.0
description:
  - Takes the files that are missing or differ at O(path) from the archive. Each is held against its digest and takes
    its place in one step.
  - Two at once wait for each other, also on nodes that share the storage; the second finds everything there.
author:
  - gpufleet.axolotl contributors (@gpufleet)
options:
  path:
    description: Where the tree goes. Files that are there and not listed are left alone.
    type: path
    required: true
  entries:
    description: What it must hold, as M(gpufleet.axolotl.tree_digest) lists it.
    type: list
    elements: dict
    required: true
  archive:
    description: The tar archive on this node. Its members are named by the paths in O(entries).
    type: path
    required: true
  timeout:
    description: Seconds to wait for another process that is at work there.
    type: int
    default: 3600
attributes:
  check_mode:
    support: none
    description: The archive is not there in check mode.
  diff_mode:
    support: none
    description: What is unpacked is no reading matter.
"""

EXAMPLES = r"""
- name: Unpack the delivery
  gpufleet.axolotl.file_unpack:
    path: /srv/axolotl/releases/067b021c8b87-1f0c9d2ab34e/delivery
    entries: "{{ pack.entries }}"
    archive: /srv/axolotl/releases/067b021c8b87-1f0c9d2ab34e/delivery.tar
"""

RETURN = r"""
unpacked:
  description: Number of files that were missing or differed.
  type: int
  returned: success
"""

import contextlib
import hashlib
import os
import tarfile

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.core.relay_protocol import CHUNK, RelayError, read_entries
from ..module_utils.node.folder_lock import FolderBusy, only_one_in
from ..module_utils.node.relay_client import lacking, part_of, settle


def unpack(path, entry, tree):
    """Put one file of the archive into its place."""
    try:
        stream = tree.extractfile(entry.path)
    except KeyError:
        stream = None
    if stream is None:
        raise RelayError(f"the archive holds no file {entry.path}")
    part = part_of(path, entry)
    os.makedirs(os.path.dirname(part), exist_ok=True)
    state = hashlib.sha256()
    with open(part, "wb") as target:
        for chunk in iter(lambda: stream.read(CHUNK), b""):
            state.update(chunk)
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    settle(path, entry, state.hexdigest())


def main():
    """Unpack unless everything is there."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "entries": {"type": "list", "elements": "dict", "required": True},
            "archive": {"type": "path", "required": True},
            "timeout": {"type": "int", "default": 3600},
        },
    )
    path, archive = module.params["path"], module.params["archive"]
    try:
        entries = read_entries(module.params["entries"])
        with only_one_in(os.path.dirname(path), module.params["timeout"]):
            missing = lacking(path, entries, read=True)  # whoever was at work here before may have unpacked them
            if missing:
                with tarfile.open(archive) as tree:
                    for number in missing:
                        unpack(path, entries[number], tree)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(archive)
    except (RelayError, FolderBusy, OSError, tarfile.TarError) as error:
        module.fail_json(msg=f"{archive} can't be unpacked to {path}: {error}")
    module.exit_json(changed=bool(missing), unpacked=len(missing))


if __name__ == "__main__":
    main()
