# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether somebody has left a default config of accelerate where the trainers would find it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

NAMES = ("default_config.yaml", "default_config.json")


def read(environment: Mapping[str, str]) -> dict[str, Any]:
    """Look where accelerate looks (accelerate/commands/config/config_args.py), in the trainers' environment.

    Returns:
        default_config: the file that counts, None where there is none; and error.
    """
    home = environment.get("HOME", "")
    cache = environment.get("XDG_CACHE_HOME") or "~/.cache"
    folder = environment.get("HF_HOME") or os.path.join(cache, "huggingface")
    if folder == "~" or folder.startswith("~/"):
        folder = os.path.join(home, folder[2:])
    paths = [os.path.join(folder, "accelerate", name) for name in NAMES]
    return {"default_config": next((path for path in paths if os.path.isfile(path)), None), "error": None}
