# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the files from which NCCL takes settings, for the account that trains: the one that runs this."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from typing import Any

from ..core import library_versions, nccl_config

MAX_BYTES = 1 << 16
"""Such files have a few lines."""


def read(environment: Mapping[str, str], version: str | None = None, etc: str = nccl_config.ETC) -> dict[str, Any]:
    """What NCCL will have set.

    Args:
        environment: of the trainers; this process's own does not count.
        version: of the NCCL that will be loaded, None where it is not known.
        etc: the machine's file.

    Returns:
        files (path, exists and error, in order of precedence), settings (as `nccl_config.effective`), and error, which
        names the files that exist and can't be read.
    """
    parts = library_versions.parts(version)
    paths = [etc if path == nccl_config.ETC else path for path in nccl_config.paths(environment, _home(), parts)]
    found = [(path, *_content(path)) for path in dict.fromkeys(paths)]
    errors = [f"{path}: {error}" for path, _text, error in found if error]
    return {
        "files": [
            {"path": path, "exists": text is not None or bool(error), "error": error} for path, text, error in found
        ],
        "settings": nccl_config.effective(environment, [(path, text) for path, text, _error in found], parts),
        "error": "; ".join(errors) or None,
    }


def _home() -> str | None:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return None


def _content(path: str) -> tuple[str | None, str | None]:
    """The text, None where there is no such file, and what keeps it from being read."""
    if not os.path.isabs(path):
        return None, "a relative path: what it names depends on where a trainer starts"
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as stream:
            text = stream.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None, None
    except OSError as error:
        return None, error.strerror or str(error)
    return (text, None) if len(text) <= MAX_BYTES else (None, f"more than {MAX_BYTES >> 10} KiB")
