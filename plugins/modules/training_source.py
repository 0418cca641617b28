#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has one version of a training file, dataset or model at a path, fetched from where it is published."""

from __future__ import annotations

DOCUMENTATION = r"""
module: training_source
short_description: Fetches one version of a training file, dataset or model
version_added: 0.1.0
description:
  - A file from a URL by its SHA-256, the files of a git commit, or those of a commit on the Hugging Face Hub.
  - What comes is verified as far as its source says what it is, and takes its place only when it is complete. The Hub
    says it of every file, a git commit of all together.
  - Beside it, C(.NAME.source.json) keeps what it is. What is unchanged since is left alone, without network.
  - What lies at the path and was not fetched by this module is never replaced.
author:
  - gpufleet.axolotl contributors (@gpufleet)
options:
  path:
    description: Where it belongs. Its folder is made.
    type: path
    required: true
  source:
    description: What it is, as the launch plan has it.
    type: dict
    required: true
    suboptions:
      kind:
        description: What kind of place it comes from.
        type: str
        choices: [url, git, hub]
        required: true
      location:
        description: The URL, the repository, or the name on the Hub, which begins with C(datasets/) for a dataset.
        type: str
        required: true
      version:
        description: The file's SHA-256, or the full commit SHA.
        type: str
        required: true
      include:
        description: Patterns of the files that are wanted of a repository on the Hub. When empty, all are.
        type: list
        elements: str
        default: []
  release:
    description: Folder of the release whose Python has the Hub's library.
    type: path
  lock:
    description:
      - On a controller, which has no release, the release's lock, which says what version of the Hub's library to use.
        uv brings it.
    type: path
  environment:
    description: Environment of what fetches, such as proxies and E(HF_ENDPOINT).
    type: dict
    default: {}
  secrets:
    description: Environment that must not be shown anywhere, such as E(HF_TOKEN).
    type: dict
    default: {}
  timeout:
    description: Seconds that the Hub's library and each step of git may take.
    type: int
    default: 86400
attributes:
  check_mode:
    support: full
    description: In check mode nothing is fetched.
  diff_mode:
    support: full
    description: Shows the version before and after.
"""

EXAMPLES = r"""
- name: Have a model
  gpufleet.axolotl.training_source:
    path: /srv/training/models/tiny
    source:
      kind: hub
      location: org/tiny
      version: 0123456789abcdef0123456789abcdef01234567
    release: /opt/axolotl/current
"""

RETURN = r"""
digest:
  description: Digest of what lies at the path now, as M(gpufleet.axolotl.tree_digest) has it. Empty where nothing does.
  type: str
  returned: success
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.lock_file import LockFileError, parse_lock
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.file_digests import read_tree
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.folder_lock import FolderBusy, only_one_in
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.source_error import SourceError
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.source_git import fetch_git
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.source_hub import fetch_hub
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.source_record import SourcePlace
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.source_url import fetch_url
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.uv import find_uv, uv_settings


def hub_python(params):
    """The command and the environment of an interpreter with the Hub's library."""
    if params["release"]:
        return [os.path.join(params["release"], "venv", "bin", "python"), "-I"], {}
    try:
        with open(params["lock"], encoding="utf-8") as stream:
            version = parse_lock(stream.read()).get("huggingface-hub")
    except (OSError, TypeError, LockFileError) as error:
        raise SourceError(f"the lock does not say what version of the Hub's library to use: {error}") from None
    uv = find_uv()
    if not version or not uv:
        raise SourceError("the Hub needs uv on the controller, and a lock of the release that has huggingface-hub")
    command = [uv, "run", "--quiet", "--no-project", "--isolated", "--with", f"huggingface-hub=={version}", "python"]
    return command, uv_settings(uv)


def fetch(params, into):
    """Have it at `into`."""
    source = params["source"]
    os.environ.update({name: str(value) for name, value in params["environment"].items()})  # for git and proxies
    if source["kind"] == "url":
        fetch_url(source, into)
    elif source["kind"] == "git":
        fetch_git(source, into, params["timeout"])
    else:
        python, settings = hub_python(params)
        secrets = {name: str(value) for name, value in params["secrets"].items()}
        fetch_hub(source, into, python, {**settings, **secrets}, params["timeout"])


def bring(params, place):
    """Fetch, compare with what is there, and put it in its place; give its digest and whether that was a change."""
    source, record = params["source"], place.record()
    before = read_tree(place.path, follow=True).digest
    if source["kind"] == "url" and before == source["version"]:
        if record.get("source") != source:
            place.note(source, before)
        return before, False
    fetch(params, place.fetching)
    after = read_tree(place.fetching, follow=True)
    if after.problems:
        raise SourceError(f"{source['location']} holds what can't be used: {', '.join(after.problems[:3])}")
    if os.path.lexists(place.path) and after.digest != before and not record:
        place.drop()
        raise SourceError(
            f"{place.path} is in the way: it is not {source['location']} at {source['version']}, and was not "
            "fetched by provision. Remove it, or correct dest in axolotl_training_files"
        )
    if after.digest == before:
        place.drop()
    else:
        place.take()
    place.note(source, after.digest)
    return after.digest, after.digest != before


def describe(source):
    """A version of a source as the line of a diff."""
    return f"{source['location']} at {source['version']}\n" if source else ""


def main():
    """Leave what is there and unchanged alone."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "source": {
                "type": "dict",
                "required": True,
                "options": {
                    "kind": {"type": "str", "choices": ["url", "git", "hub"], "required": True},
                    "location": {"type": "str", "required": True},
                    "version": {"type": "str", "required": True},
                    "include": {"type": "list", "elements": "str", "default": []},
                },
            },
            "release": {"type": "path"},
            "lock": {"type": "path"},
            "environment": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "timeout": {"type": "int", "default": 86400},
        },
        supports_check_mode=True,
    )
    params = module.params
    place = SourcePlace(params["path"])
    record = place.record()
    diff = {"before": describe(record.get("source")), "after": describe(params["source"])}
    found = read_tree(place.path, follow=True)
    if record == {"source": params["source"], "digest": found.digest}:
        module.exit_json(changed=False, digest=found.digest, diff=diff)
    if module.check_mode:
        changed = params["source"]["kind"] != "url" or found.digest != params["source"]["version"]
        module.exit_json(changed=changed, digest=found.digest, diff=diff)
    try:
        with only_one_in(place.folder):
            digest, changed = bring(params, place)
    except (SourceError, FolderBusy, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, digest=digest, diff=diff)


if __name__ == "__main__":
    main()
