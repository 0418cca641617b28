# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a growing log in chunks, line by line, in constant memory."""

from __future__ import annotations

import os
from collections.abc import Iterator

CHUNK = 1 << 20
MAX_PENDING = 64 * 1024
"""Bytes kept of a line without an end, so that a binary dump can't fill the memory."""


class LogReader:
    """Yields the lines that came since the last call; a progress bar's carriage return ends a line too."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.offset = 0
        self._pending = b""

    def new_lines(self) -> Iterator[str]:
        """Lines since the last call; the one still being written waits for its end."""
        try:
            with open(self.path, "rb") as stream:
                if os.fstat(stream.fileno()).st_size < self.offset:  # somebody has cut it
                    self.offset, self._pending = 0, b""
                stream.seek(self.offset)
                while True:
                    chunk = stream.read(CHUNK)
                    if not chunk:
                        return
                    self.offset += len(chunk)
                    *lines, pending = (self._pending + chunk).replace(b"\r", b"\n").split(b"\n")
                    self._pending = pending[:MAX_PENDING]
                    for line in lines:
                        if line:
                            yield line.decode("utf-8", "replace")
        except FileNotFoundError:
            return

    def rest(self) -> str:
        """The last line, should it have no end."""
        line, self._pending = self._pending, b""
        return line.decode("utf-8", "replace")
