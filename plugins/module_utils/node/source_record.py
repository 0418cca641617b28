# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remembers, beside what was fetched, from which version of which source it is, and puts it in its place."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from typing import Any

from .files import replace_file


class SourcePlace:
    """A path, and what lies hidden beside it: the record, and what is still being fetched."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.folder, name = os.path.split(path)
        self.fetching = os.path.join(self.folder, f".{name}.fetching")
        self._record = os.path.join(self.folder, f".{name}.source.json")
        self._before = os.path.join(self.folder, f".{name}.before")

    def record(self) -> dict[str, Any]:
        """What was fetched last: source and digest; empty where nothing was, or nobody knows."""
        try:
            with open(self._record, encoding="utf-8") as stream:
                record = json.load(stream)
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def note(self, source: Mapping[str, Any], digest: str) -> None:
        """Record what now lies at the path."""
        content = json.dumps({"source": source, "digest": digest}, indent=2, sort_keys=True) + "\n"
        replace_file(self._record, content, durable=True)

    def take(self) -> None:
        """Put what was fetched in its place. Cut off, it leaves either what was there before, or nothing."""
        _remove(self._before)
        if os.path.lexists(self.path):
            os.rename(self.path, self._before)
        os.rename(self.fetching, self.path)
        _remove(self._before)

    def drop(self) -> None:
        """Take away what was fetched and isn't wanted."""
        _remove(self.fetching)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
