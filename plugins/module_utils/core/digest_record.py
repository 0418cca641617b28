# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form in which digests of files are kept for the next time, and when one may be kept at all. Pure.

A store is text: a line with the format and the SHA-256 of all that follows, then a line for each file:

    ALGORITHM DEVICE INODE SIZE MTIME_NS CTIME_NS HASHED_NS DIGEST

The SHA-256 finds what a full disk or a bad one has done to the store. It does not prove who wrote it: that is for
whoever opens the file to see to.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from .digest_algorithms import ALGORITHMS

MAX_RECORDS = 100_000
"""More are never kept: a store of that size takes 0.6 s to read (measured), and hashing as many files 5 s at least."""
MAX_BYTES = 256 * MAX_RECORDS
"""A line has at most 203 bytes; what is larger is no store."""
MARGIN_NS = 2_000_000_000
"""The coarsest time stamp that a file system still has: FAT's 2 s. ext3 has 1 s, ext4 and XFS that of a clock tick."""

_MAGIC = "gpufleet-digests-1"
_LINE = re.compile(
    f"({'|'.join(ALGORITHMS)})" + r" ([0-9]{1,20}) ([0-9]{1,20}) ([0-9]{1,20}) (-?[0-9]{1,20}) (-?[0-9]{1,20})"
    r" ([0-9]{1,20}) ([0-9a-f]{32}(?:[0-9a-f]{32})?)"
)


class Stamp(NamedTuple):
    """What the kernel says of a file without its content. A change of the content changes it, but see `is_settled`."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Record(NamedTuple):
    """The digest of a file, and when hashing it began (nanoseconds since the epoch)."""

    algorithm: str
    stamp: Stamp
    hashed_ns: int
    digest: str


def stamp_of(status: os.stat_result) -> Stamp:
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def is_settled(stamp: Stamp, hashed_ns: int) -> bool:
    """Whether the file had been left alone for long enough, when hashing began, for its stamp to prove its content.

    Times of files advance in steps. A file that is written, hashed and written again within one step, with its size
    unchanged, has the same stamp before and after: a digest that is kept under this stamp would be believed for ever
    (git calls this racy). So a digest counts only where the last change lies more than a step back: whatever is written
    after hashing began then gets another time. A time in the future, from a clock that is wrong, proves nothing either.

    Not even this sees a store through a mapping that was dirty already (the kernel stamps its first write alone, until
    the page is written back), nor a bit that rots on the disk. Only reading the file again does.
    """
    return hashed_ns - max(stamp.mtime_ns, stamp.ctime_ns) > MARGIN_NS


def render(records: Iterable[Record]) -> str:
    """The store's text."""
    body = "".join(
        f"{record.algorithm} {' '.join(map(str, record.stamp))} {record.hashed_ns} {record.digest}\n"
        for record in records
    )
    return f"{_MAGIC} {_checksum(body)}\n{body}"


def parse(content: bytes) -> list[Record]:
    """The records of a store: those that count, or none where it is damaged or something else."""
    if len(content) > MAX_BYTES:
        return []
    head, _newline, body = content.decode("ascii", "replace").partition("\n")
    if head != f"{_MAGIC} {_checksum(body)}":
        return []
    found = []
    for line in body.splitlines():
        match = _LINE.fullmatch(line)
        if not match or len(match[8]) != ALGORITHMS[match[1]]:
            return []
        record = Record(match[1], Stamp(*map(int, match.groups()[1:6])), int(match[7]), match[8])
        if is_settled(record.stamp, record.hashed_ns):
            found.append(record)
    return found


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8", "replace")).hexdigest()
