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
  - Whatever can't be read, or changes while it is read, is a problem by name, and then there is no digest.
author:
  - gpufleet.axolotl contributors (@gpufleet)
options:
  path:
    description: The file or folder.
    type: path
    required: true
  algorithm:
    description: The hash function.
    type: str
    choices: [sha256, md5]
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
attributes:
  check_mode:
    support: full
    description: The module changes nothing.
  diff_mode:
    support: none
    description: The module changes nothing.
"""

EXAMPLES = r"""
- name: Digest a model
  gpufleet.axolotl.tree_digest:
    path: /srv/axolotl/work/model
  register: model
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
problems:
  description: What could not be read.
  type: list
  elements: str
  returned: success
entries:
  description: Every entry with path, kind, size and digest.
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

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.manifest import Entry, compare
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.file_digests import ALGORITHMS, read_tree

LISTED = 20


def summary(difference, problems):
    """Say what differs: a few names of each kind, and how many there are."""
    parts = [
        f"{name} {len(paths)}: {', '.join(path or 'the file itself' for path in paths[:5])}"
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
        },
        mutually_exclusive=[("expect", "compare")],
        supports_check_mode=True,
    )
    params = module.params
    reading = read_tree(params["path"], algorithm=params["algorithm"], follow=params["follow"])
    result = {**reading._asdict(), "entries": [entry._asdict() for entry in reading.entries]}
    if not params["entries"]:
        del result["entries"]
    if params["expect"] is not None:
        result["same"] = reading.digest == params["expect"] != ""
    if params["compare"] is not None:
        try:
            expected = [Entry(**{**entry, "size": int(entry["size"])}) for entry in params["compare"]]
        except (KeyError, TypeError, ValueError):
            module.fail_json(
                msg="each entry of compare needs path, kind, size and digest, as this module's entries have them"
            )
        difference = compare(expected, reading.entries)
        result["same"] = not difference and not reading.problems
        result["difference"] = {name: paths[:LISTED] for name, paths in difference._asdict().items()}
        result["summary"] = summary(difference._asdict(), reading.problems)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
