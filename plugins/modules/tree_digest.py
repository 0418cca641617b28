#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tree_digest
short_description: Digests a file or a file tree and compares it
version_added: 0.1.0
description:
  - Gives one digest for a file or a whole tree, so that two hosts can be compared.
  - The digest of a single file is the file's own; the digest of a tree covers path, size and content of each entry.
    Owners, modes, times and empty folders do not count, nor does a C(.gpufleet.lock).
  - Whatever can't be read, or changes while it is read, is a problem by name, and then there is no digest.
  - Files of 128 KiB and more are read by as many threads as there are processors for the module, 16 at most.
author:
  - gpufleet.axolotl contributors (@gpufleet)
options:
  path:
    description: The file or folder. A link here is followed.
    type: path
    required: true
  algorithm:
    description:
      - The hash function.
      - V(md5) is there to compare with C(md5sum), and is no proof against a file that was made to have a digest.
      - V(blake3) needs the package C(blake3) for the Python with which Ansible runs on the node, and fails without it.
    type: str
    choices: [sha256, md5, blake3]
    default: sha256
  follow:
    description:
      - Whether links inside the tree count as what they point to. By default they count as their target's text.
    type: bool
    default: false
  entries:
    description: Whether to return every entry.
    type: bool
    default: false
  expect:
    description: Digest that the whole should have.
    type: str
  compare:
    description: Entries of another tree, as RV(entries) gives them, to compare with.
    type: list
    elements: dict
  cache:
    description:
      - Folder in which digests of files of 128 KiB and more are kept for the next time. By default none are kept.
      - A kept digest is taken while device, inode, size and both times of the file are what they were. It is kept only
        when the file had not been changed for 2 s before, so that a later change is sure to show in the times.
      - The folder is made with mode 0700. It and the file C(gpufleet-digests) in it must belong to the user who runs
        the module, and nobody else may write to them; otherwise they are left alone, with a warning.
      - At most 100,000 digests are kept; those that were written longest ago are dropped.
    type: path
  rehash:
    description:
      - Whether to read every file although its digest is kept. What is read is kept.
      - Nothing else finds what has changed without a write, such as bits that rot on a disk.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: The module changes nothing but O(cache), and in check mode not even that.
  diff_mode:
    support: none
    description: The module changes nothing.
"""

EXAMPLES = r"""
- name: Digest a model
  gpufleet.axolotl.tree_digest:
    path: /srv/training/model
  register: model

- name: Digest it again, and read only what has changed
  gpufleet.axolotl.tree_digest:
    path: /srv/training/model
    cache: /srv/axolotl/digests
    expect: "{{ model.digest }}"

- name: Say what differs from another host
  gpufleet.axolotl.tree_digest:
    path: /srv/training/model
    compare: "{{ hostvars['node1'].model.entries }}"
"""

RETURN = r"""
exists:
  description: Whether there is something at O(path).
  type: bool
  returned: success
digest:
  description: The digest of the whole. Empty when there are problems.
  type: str
  returned: success
files:
  description: Number of files.
  type: int
  returned: success
links:
  description: Number of links that were not followed.
  type: int
  returned: success
size:
  description: Bytes in all.
  type: int
  returned: success
cached_files:
  description: Number of files that were not read, since their digests were kept in O(cache).
  type: int
  returned: success
cached_size:
  description: Bytes of these files.
  type: int
  returned: success
problems:
  description: What could not be read, up to 100 lines, and how much more there is.
  type: list
  elements: str
  returned: success
entries:
  description:
    - Every entry with path, kind (V(file) or V(link)), size and digest, sorted.
    - Bytes of a path that are no UTF-8 are spelled out, as in C(\xff).
  type: list
  elements: dict
  returned: when O(entries=true)
difference:
  description: The paths that are missing, extra or different against O(compare), up to 20 each.
  type: dict
  returned: when O(compare) is given
summary:
  description: The difference and the problems in one sentence.
  type: str
  returned: when O(compare) is given
same:
  description: Whether the tree equals O(expect) or O(compare), and could be read completely.
  type: bool
  returned: when O(expect) or O(compare) is given
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.digest_algorithms import (
    ALGORITHMS,
    AlgorithmMissing,
)
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.manifest import (
    ManifestError,
    compare,
    one_line,
    parse_entries,
)
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.digest_cache import DigestCache
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.file_digests import read_tree

LISTED = 20


def summary(difference, problems):
    """Say what differs: a few names of each kind, and how many there are."""
    parts = [
        f"{name} {len(paths)}: {', '.join(one_line(path) or 'the file itself' for path in paths[:5])}"
        for name, paths in difference.items()
        if paths
    ]
    return "; ".join([*parts, *problems[:5]]) or "nothing"


def main():
    """Read, and compare when asked."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "algorithm": {"type": "str", "choices": list(ALGORITHMS), "default": "sha256"},
            "follow": {"type": "bool", "default": False},
            "entries": {"type": "bool", "default": False},
            "expect": {"type": "str"},
            "compare": {"type": "list", "elements": "dict"},
            "cache": {"type": "path"},
            "rehash": {"type": "bool", "default": False},
        },
        mutually_exclusive=[("expect", "compare")],
        supports_check_mode=True,
    )
    params = module.params
    try:
        expected = None if params["compare"] is None else parse_entries(params["compare"])
        cache = None
        if params["cache"]:
            cache = DigestCache(params["cache"], look_up=not params["rehash"], write=not module.check_mode)
        reading = read_tree(params["path"], algorithm=params["algorithm"], follow=params["follow"], cache=cache)
    except (AlgorithmMissing, ManifestError) as error:
        module.fail_json(msg=str(error))
    if cache is not None and cache.note:
        module.warn(cache.note)
    result = reading._asdict()
    if params["entries"]:
        result["entries"] = [entry._asdict() for entry in reading.entries]
    else:
        del result["entries"]
    if params["expect"] is not None:
        result["same"] = reading.digest == params["expect"] != ""
    if expected is not None:
        difference = compare(expected, reading.entries)
        result["same"] = not difference and not reading.problems
        result["difference"] = {name: paths[:LISTED] for name, paths in difference._asdict().items()}
        result["summary"] = summary(difference._asdict(), reading.problems)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
