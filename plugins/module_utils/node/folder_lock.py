# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets one process at a time work in a folder. The lock ends with the process and leaves no file."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator

_POLL = 0.2
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL)
"""What file systems answer that can't lock a folder (NFS: flock(2) wants it opened for writing)."""


class FolderBusy(Exception):
    """Another process has been at work there for all the time that one was ready to wait."""


@contextlib.contextmanager
def only_one_in(folder: str, timeout: float = 3600) -> Iterator[None]:
    """Wait until no other process is at work in the folder, which is made where it is missing.

    Where the file system has no such locks, nobody waits.

    Raises:
        FolderBusy: it took longer than `timeout` seconds.
        OSError: the folder can't be made.
    """
    os.makedirs(folder, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _lock(handle, folder, time.monotonic() + timeout)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: str, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise FolderBusy(f"another process is still at work in {folder}: wait for its end") from None
            time.sleep(_POLL)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return
            raise
