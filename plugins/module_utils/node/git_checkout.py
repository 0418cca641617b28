# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks one commit of a repository out, with no more of its history than the server makes necessary."""

from __future__ import annotations

import os
import shutil

from .commands import run


class GitError(Exception):
    """A step failed; the message says which, and what git said."""


def check_out(repository: str, commit: str, folder: str, timeout: float) -> None:
    """Make `folder` a clean checkout of `commit` (a full SHA) with its submodules.

    What lay there is replaced at the end. Each step may take `timeout` seconds. git asks nobody for a password.

    Raises:
        GitError: the repository can't be reached, or does not hold the commit.
        OSError: the folder can't be written.
    """
    fresh = f"{folder}.new"
    shutil.rmtree(fresh, ignore_errors=True)  # what was cut off is not worth finding out
    _git(timeout, repository, "init", "--quiet", fresh)
    _git(timeout, repository, "-C", fresh, "remote", "add", "origin", repository)
    one = ["-C", fresh, "fetch", "--quiet", "--no-tags", "--depth=1", "origin", commit]
    if run(["git", *one], timeout, env=_QUIET).rc:
        # A server may refuse to give a commit that no branch or tag points to; with all of them it is there.
        every_branch = "+refs/heads/*:refs/remotes/origin/*"
        _git(timeout, repository, "-C", fresh, "fetch", "--quiet", "--tags", "origin", every_branch)
    _git(timeout, repository, "-C", fresh, "checkout", "--quiet", "--detach", commit)
    if os.path.exists(os.path.join(fresh, ".gitmodules")):
        _git(timeout, repository, "-C", fresh, "submodule", "update", "--quiet", "--init", "--recursive", "--depth=1")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(fresh, folder)


_QUIET = {"GIT_TERMINAL_PROMPT": "0"}


def _git(timeout: float, repository: str, *arguments: str) -> None:
    done = run(["git", *arguments], timeout, env=_QUIET)
    if done.rc or done.timed_out:
        words = [word for word in arguments if not word.startswith(("-", "/"))]
        raise GitError(f"git {words[0]} of {repository} failed: {done.message()}")
