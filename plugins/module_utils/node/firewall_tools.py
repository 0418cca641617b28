# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the tools of firewalls and keeps our own files beside theirs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from . import commands, files

SECONDS = 60.0
RECORD = "/etc/gpufleet"
"""Folder of what we keep on the node about its firewall; it is there only where something is open."""
DROP_INS = "/etc/systemd/system/nftables.service.d"


class FirewallError(Exception):
    """A firewall that can't be read or changed; the message says what was expected and found, and the remedy."""


def search_path() -> str:
    """Firewalls lie in sbin, which not every login has."""
    return f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin"


def environment() -> dict[str, str]:
    return {"PATH": search_path(), "LC_ALL": "C"}


def has(tool: str) -> bool:
    return shutil.which(tool, path=search_path()) is not None


def run(argv: Sequence[str]) -> str:
    result = commands.run(argv, SECONDS, environment())
    if result.rc != 0:
        raise FirewallError(f"`{' '.join(argv[:6])}` failed: {result.message(500)}")
    return result.stdout


def run_json(argv: Sequence[str]) -> list[dict[str, Any]]:
    text = run(argv)
    try:
        return list(json.loads(text)["nftables"])
    except (ValueError, KeyError):
        raise FirewallError(f"`{' '.join(argv)}` printed something other than JSON: {text[:200]}") from None


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except OSError:
        return ""


def store(wanted: Mapping[str, str]) -> None:
    """Write each file, and remove those without a text, with a folder of ours that is empty then."""
    for path, text in wanted.items():
        try:
            if text:
                os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                files.replace_file(path, text)
            elif os.path.exists(path):
                os.unlink(path)
                if os.path.dirname(path) in (RECORD, DROP_INS) and not os.listdir(os.path.dirname(path)):
                    os.rmdir(os.path.dirname(path))
        except OSError as error:
            raise FirewallError(f"{path} can't be written: {error}") from error
