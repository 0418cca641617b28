# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches the files of one commit of a git repository, without its history."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from .git_checkout import GitError, check_out
from .source_error import SourceError

_POINTER = b"version https://git-lfs.github.com/spec/"
"""Begins what stands in for a file that Git LFS keeps elsewhere (the specification on Git LFS pointers)."""


def fetch_git(source: Mapping[str, Any], into: str, timeout: float) -> None:
    """Have the files of `source` (location, version: a full SHA) in the folder `into`.

    Credentials are those of git's own helpers. Each step may take `timeout` seconds.

    Raises:
        SourceError: the repository or the commit can't be had, or files lie in Git LFS, which is not installed here.
        OSError: it can't be written.
    """
    try:
        check_out(source["location"], source["version"], into, timeout)
    except GitError as error:
        raise SourceError(str(error)) from None
    for repository in list(_repositories(into)):
        shutil.rmtree(repository) if os.path.isdir(repository) else os.unlink(repository)
    pointers = sorted(_pointers(into))
    if pointers:
        raise SourceError(
            f"{source['location']} keeps {len(pointers)} file(s) in Git LFS ({', '.join(pointers[:3])}), and git-lfs "
            "is not set up here: install it, and run git lfs install --system"
        )


def _repositories(folder: str) -> Iterator[str]:
    """git's own folder, and those of submodules."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if name == ".git":
                yield os.path.join(parent, name)


def _pointers(folder: str) -> Iterator[str]:
    for parent, _folders, files in os.walk(folder):
        for name in files:
            path = os.path.join(parent, name)
            if os.path.isfile(path) and os.path.getsize(path) < 1024:  # so says the specification
                with open(path, "rb") as stream:
                    if stream.read(len(_POINTER)) == _POINTER:
                        yield os.path.relpath(path, folder)
