#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_switch
short_description: Points current to a release
version_added: 0.1.0
description:
  - Replaces the link O(current) in one step, so that there is no moment without it.
  - Refuses a release that was never completed.
author:
  - gpufleet.axolotl contributors (@gpufleet)
options:
  release:
    description: Folder of the release.
    type: path
    required: true
  current:
    description: The link.
    type: path
    required: true
attributes:
  check_mode:
    support: full
    description: In check mode nothing is written.
  diff_mode:
    support: full
    description: Shows the state before and after.
"""

EXAMPLES = r"""
- name: Make the release the current one
  gpufleet.axolotl.release_switch:
    release: /srv/axolotl/releases/067b021c8b87-1f0c9d2ab34e
    current: /srv/axolotl/current
"""

RETURN = r"""
current:
  description: The release that O(current) points to now, or would point to without check mode.
  type: str
  returned: success
previous:
  description: The release that it pointed to before. V(null) when there was none.
  type: str
  returned: success
"""

import os
import secrets

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.release_directory import SEAL, read_seal


def replace_link(link, target):
    """Make the new link beside the old one and rename it over it, which is atomic."""
    temporary = f"{link}.new-{secrets.token_hex(8)}"  # a pid may be another machine's too
    os.symlink(target, temporary)
    try:
        os.replace(temporary, link)
    except OSError:
        os.unlink(temporary)
        raise


def main():
    """Move the link when it points elsewhere."""
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "path", "required": True},
            "current": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    release, current = module.params["release"], module.params["current"]
    if os.path.lexists(current) and not os.path.islink(current):
        module.fail_json(
            msg=f"{current} is no link, so it is not this collection's: move it away, or set another axolotl_root"
        )
    if read_seal(release) is None and not module.check_mode:
        module.fail_json(msg=f"{release} has no readable {SEAL}, so it was never completed: run provision")
    # Relative to the link, so that a root that is moved or mounted elsewhere stays whole.
    target = os.path.relpath(release, os.path.dirname(current))
    found = os.readlink(current) if os.path.islink(current) else None
    previous = None if found is None else os.path.normpath(os.path.join(os.path.dirname(current), found))
    changed = found != target
    try:
        if changed and not module.check_mode:
            replace_link(current, target)
    except OSError as error:
        module.fail_json(msg=f"{current} can't be pointed to {release}: {error}")
    diff = {"before": f"{current} -> {found}\n" if found else "", "after": f"{current} -> {target}\n"}
    module.exit_json(changed=changed, current=release, previous=previous, diff=diff)


if __name__ == "__main__":
    main()
