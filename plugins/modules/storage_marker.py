#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: storage_marker
short_description: Prove whether nodes see one folder, by a marker that one of them makes
version_added: "0.1.0"
description:
  - One node makes a marker of a random name in a folder, all look for it under the same or their own path, and the
    first removes it again. Who sees it sees the same folder.
  - A marker that nobody removed for an hour is removed when the next one is made.
author:
  - gpufleet.axolotl contributors (@gpufleet)
attributes:
  check_mode:
    support: full
    description:
      - The marker is made and removed in check mode too, as nothing of it stays. O(root) itself is not made then.
  diff_mode:
    support: none
    description: Nothing stays but, where it was missing, O(root).
options:
  root:
    description: Absolute path of the folder.
    type: path
    required: true
  state:
    description: Whether to make a marker, to look for one, or to remove it.
    type: str
    choices: [made, looked_for, removed]
    required: true
  marker:
    description: Its name, as it was returned when it was made. Not needed to make one.
    type: str
    default: ""
  make_root:
    description: Whether to make O(root) for it where it is missing. Otherwise there is no marker then.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Make a marker
  gpufleet.axolotl.storage_marker:
    root: /mnt/shared/axolotl
    state: made
  run_once: true
  register: marker

- name: Look for it
  gpufleet.axolotl.storage_marker:
    root: /mnt/shared/axolotl
    state: looked_for
    marker: "{{ marker.marker }}"
"""

RETURN = r"""
marker:
  description: Name of the marker that was made; empty where there is none.
  returned: always
  type: str
problem:
  description: Why it could not be made or removed; empty where all went well or O(root) is not there.
  returned: always
  type: str
storage:
  description: What this node sees of O(root) (exists, seen, writable, owner, uid, file_system).
  returned: when O(state=looked_for)
  type: dict
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.node import storage


def make(root: str, make_root: bool) -> dict:
    """Make a marker; a folder that is not there is no problem here."""
    result = {"changed": False, "marker": "", "problem": ""}
    if make_root and not os.path.isdir(root):
        os.makedirs(root)
        result["changed"] = True
    if os.path.isdir(root):
        result["marker"] = storage.make_marker(root)
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["made", "looked_for", "removed"], "required": True},
            "marker": {"type": "str", "default": ""},
            "make_root": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    root, state, marker = module.params["root"], module.params["state"], module.params["marker"]
    result = {"changed": False, "marker": marker, "problem": ""}
    try:
        if state == "made":
            result = make(root, module.params["make_root"] and not module.check_mode)
        elif state == "removed":
            storage.remove_marker(root, marker)
        else:
            result["storage"] = storage.look(root, marker)
    except OSError as error:  # to be judged together with what the other nodes say
        result["problem"] = f"{root}: {str(error.strerror).lower()}"
    module.exit_json(**result)


if __name__ == "__main__":
    main()
