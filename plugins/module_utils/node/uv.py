# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds uv and the settings with which it should run on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping

from ..core.uv_environment import parse_pip_config_list, uv_environment
from .commands import run
from .folder_lock import only_one_in


def find_uv(version: str = "", folder: str = "") -> str | None:
    """Find uv in `folder`, beside this interpreter or on PATH, of exactly that version when one is asked for."""
    beside = os.path.dirname(os.path.abspath(sys.executable))
    candidates = [os.path.join(place, "uv") for place in (folder, beside) if place] + [shutil.which("uv") or ""]
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            # `uv 0.9.1 (commit date)`: the second word is the version.
            words = run([candidate, "--version"], 10).stdout.split()
            if len(words) > 1 and version in ("", words[1]):
                return candidate
    return None


def uv_settings(uv: str, cache_dir: str = "") -> dict[str, str]:
    """The environment for uv: what this machine configures for pip, unless it configures uv itself.

    Debian's Python comes without a pip; the one beside `uv` reads the same configuration.
    """
    found = [shutil.which(name) for name in ("pip3", "pip", os.path.join(os.path.dirname(uv), "pip"))]
    pip = next(filter(None, found), None)
    command = [pip] if pip else [sys.executable, "-m", "pip"]
    listed = run([*command, "config", "list"], 30, env={"PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    settings = uv_environment(parse_pip_config_list(listed.stdout if listed.rc == 0 else ""))
    if cache_dir:
        settings["UV_CACHE_DIR"] = cache_dir
    own = {name: value for name, value in os.environ.items() if name in settings and name != "UV_CACHE_DIR"}
    return {**settings, **own, "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}


def offline_settings(cache_dir: str = "") -> dict[str, str]:
    """The environment for uv where everything has been delivered: nothing is dialled, whatever is configured."""
    cache = {"UV_CACHE_DIR": cache_dir} if cache_dir else {}
    return {**cache, "UV_OFFLINE": "1", "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}


@contextlib.contextmanager
def only_one(uv: str, settings: Mapping[str, str]) -> Iterator[None]:
    """Let one process at a time fill uv's cache on this machine.

    Two at once from an empty cache fetch and unpack every package twice, which takes longer than one after the
    other: the second finds everything there.
    """
    folder = run([uv, "cache", "dir"], 10, env=settings).stdout.strip()
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a cache that can't be made is uv's to complain about
            stack.enter_context(only_one_in(folder))
        yield
