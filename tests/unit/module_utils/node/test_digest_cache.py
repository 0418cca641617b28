# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kept digests save time, and never hide a change."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.digest_record import (
    MARGIN_NS,
    Record,
    Stamp,
    render,
)
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import digest_cache
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.digest_cache import STORE, DigestCache

NOW = 1_764_000_000_000_000_000


def record(inode: int, *, algorithm: str = "sha256", digest: str = "ab" * 32, age: int = 10 * MARGIN_NS) -> Record:
    return Record(algorithm, Stamp(1, inode, 4096, NOW - age, NOW - age), NOW, digest)


def keep(folder: Path, *records: Record) -> None:
    cache = DigestCache(str(folder))
    for kept in records:
        cache.add(kept)
    cache.save()


def kept_inodes(folder: Path) -> list[int]:
    return [int(line.split()[2]) for line in (folder / STORE).read_text().splitlines()[1:]]


def test_a_digest_is_found_again(tmp_path: Path) -> None:
    keep(tmp_path / "new", record(1))
    assert DigestCache(str(tmp_path / "new")).find("sha256", record(1).stamp) == "ab" * 32
    assert [path.name for path in (tmp_path / "new").iterdir()] == [STORE]
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("field", Stamp._fields)
def test_another_stamp_is_another_file(tmp_path: Path, field: str) -> None:
    keep(tmp_path, record(1))
    stamp = record(1).stamp
    assert DigestCache(str(tmp_path)).find("sha256", stamp._replace(**{field: getattr(stamp, field) - 1})) == ""


def test_another_algorithm_is_another_digest(tmp_path: Path) -> None:
    keep(tmp_path, record(1), record(1, algorithm="blake3", digest="cd" * 32))
    cache = DigestCache(str(tmp_path))
    assert cache.find("sha256", record(1).stamp) == "ab" * 32
    assert cache.find("blake3", record(1).stamp) == "cd" * 32
    assert cache.find("md5", record(1).stamp) == ""


def test_a_file_that_has_just_changed_is_not_kept(tmp_path: Path) -> None:
    keep(tmp_path, record(1, age=MARGIN_NS))
    assert list(tmp_path.iterdir()) == []
    keep(tmp_path, record(1, age=MARGIN_NS + 1))
    assert kept_inodes(tmp_path) == [1]


def test_a_file_has_one_digest_the_newest(tmp_path: Path) -> None:
    keep(tmp_path, record(1, age=3 * MARGIN_NS))
    keep(tmp_path, record(1, age=2 * MARGIN_NS, digest="cd" * 32))
    assert kept_inodes(tmp_path) == [1]
    assert DigestCache(str(tmp_path)).find("sha256", record(1, age=2 * MARGIN_NS).stamp) == "cd" * 32


def test_what_another_process_has_kept_meanwhile_stays(tmp_path: Path) -> None:
    first = DigestCache(str(tmp_path))
    keep(tmp_path, record(2))
    first.add(record(1))
    first.save()
    assert kept_inodes(tmp_path) == [2, 1]


def test_what_was_used_longest_ago_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest_cache, "MAX_RECORDS", 3)
    keep(tmp_path, record(1), record(2), record(3))
    cache = DigestCache(str(tmp_path))
    assert cache.find("sha256", record(1).stamp)
    cache.add(record(4))
    cache.save()
    assert kept_inodes(tmp_path) == [3, 1, 4]


def test_reading_again_looks_nothing_up_and_keeps_what_it_reads(tmp_path: Path) -> None:
    keep(tmp_path, record(1), record(2))
    cache = DigestCache(str(tmp_path), look_up=False)
    assert cache.find("sha256", record(1).stamp) == ""
    cache.add(record(1, digest="cd" * 32))
    cache.save()
    assert DigestCache(str(tmp_path)).find("sha256", record(1).stamp) == "cd" * 32
    assert DigestCache(str(tmp_path)).find("sha256", record(2).stamp) == "ab" * 32


def test_a_check_looks_up_and_writes_nothing(tmp_path: Path) -> None:
    keep(tmp_path, record(1))
    before = (tmp_path / STORE).read_bytes()
    cache = DigestCache(str(tmp_path), write=False)
    assert cache.find("sha256", record(1).stamp)
    cache.add(record(2))
    cache.save()
    assert (tmp_path / STORE).read_bytes() == before
    absent = DigestCache(str(tmp_path / "absent"), write=False)
    absent.add(record(2))
    absent.save()
    assert not (tmp_path / "absent").exists()


def test_nothing_new_is_not_written(tmp_path: Path) -> None:
    keep(tmp_path, record(1))
    before = (tmp_path / STORE).stat().st_ino
    cache = DigestCache(str(tmp_path))
    assert cache.find("sha256", record(1).stamp)
    cache.save()
    assert (tmp_path / STORE).stat().st_ino == before


# Whom to trust


def folder_of_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root can give files away; seen from somebody else, those of who runs the tests are another one's."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)


def store_of_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is looked at first, then the store."""
    asked = itertools.cycle([os.getuid(), os.getuid() + 1, os.getuid() + 1])
    monkeypatch.setattr(os, "geteuid", lambda: next(asked))


UNTRUSTED: dict[str, Callable[[Path, pytest.MonkeyPatch], None]] = {
    "belongs to uid": folder_of_another,
    f"{STORE} are not used: it belongs to uid": store_of_another,
    "mode 0777": lambda folder, _: folder.chmod(0o777),
    "mode 1777": lambda folder, _: folder.chmod(0o1777),
    "mode 0770": lambda folder, _: folder.chmod(0o770),
    "mode 0666": lambda folder, _: (folder / STORE).chmod(0o666),
    "mode 0620": lambda folder, _: (folder / STORE).chmod(0o620),
}


@pytest.mark.parametrize("why", list(UNTRUSTED))
def test_what_others_can_write_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    keep(tmp_path, record(1))
    before = (tmp_path / STORE).read_bytes()
    UNTRUSTED[why](tmp_path, monkeypatch)
    cache = DigestCache(str(tmp_path))
    assert cache.find("sha256", record(1).stamp) == ""
    assert why in cache.note
    cache.add(record(2))
    cache.save()
    assert (tmp_path / STORE).read_bytes() == before


def test_what_became_writable_for_others_meanwhile_is_left_alone(tmp_path: Path) -> None:
    cache = DigestCache(str(tmp_path), look_up=False)
    tmp_path.chmod(0o777)
    cache.add(record(1))
    cache.save()
    assert "mode 0777" in cache.note
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_no_store(tmp_path: Path) -> None:
    keep(tmp_path / "other", record(1))
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "mine" / STORE).symlink_to(tmp_path / "other" / STORE)
    assert DigestCache(str(tmp_path / "mine")).find("sha256", record(1).stamp) == ""
    keep(tmp_path / "mine", record(2))
    assert kept_inodes(tmp_path / "other") == [1]
    assert kept_inodes(tmp_path / "mine") == [2]


# Whatever may be there instead


@pytest.mark.parametrize("content", [b"", b"\xff\x00", render([record(1)]).encode()[:-1], b"[" * 100_000], ids=len)
def test_a_damaged_store_is_ignored_and_written_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / STORE).write_bytes(content)
    (tmp_path / STORE).chmod(0o600)
    assert DigestCache(str(tmp_path)).find("sha256", record(1).stamp) == ""
    keep(tmp_path, record(2))
    assert kept_inodes(tmp_path) == [2]


def test_a_store_of_any_size_is_ignored(tmp_path: Path) -> None:
    with (tmp_path / STORE).open("wb") as stream:
        stream.truncate(1 << 40)
    assert DigestCache(str(tmp_path)).find("sha256", record(1).stamp) == ""


def test_a_pipe_in_place_of_the_store_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / STORE, 0o600)
    assert DigestCache(str(tmp_path)).find("sha256", record(1).stamp) == ""


def test_a_folder_in_place_of_the_store_is_no_error(tmp_path: Path) -> None:
    (tmp_path / STORE).mkdir(mode=0o700)
    keep(tmp_path, record(1))
    assert [path.name for path in tmp_path.iterdir()] == [STORE]


@pytest.mark.parametrize("folder", ["file", "file/below", "/proc/1/gpufleet", "nul\0", "x" * 5000])
def test_a_folder_that_can_not_be_is_no_error(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()
    keep(tmp_path / folder, record(1))
    assert DigestCache(str(tmp_path / folder)).find("sha256", record(1).stamp) == ""
