# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes files so that neither a reader nor an interruption ever sees half of one."""

from __future__ import annotations

import os
import tempfile


def replace_file(path: str, text: str, mode: int = 0o644, *, durable: bool = False) -> None:
    """Put the whole text in the file's place in one step; its folder must exist.

    With `durable`, the content is on the disk before it takes the place, so that a power cut can't leave an empty file.

    Raises:
        OSError: it can't be written; nothing is left beside it.
    """
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
