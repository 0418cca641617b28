# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tree on disk is read completely, or it is said what could not be read."""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from pathlib import Path

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import file_digests
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.file_digests import read_tree
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.folder_lock import LOCK_FILE


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "deep").mkdir(parents=True)
    (folder / "a").write_bytes(b"content")
    (folder / "deep" / "b").write_bytes(b"")
    return folder


def test_one_file_has_the_digest_that_every_tool_gives(tree: Path) -> None:
    assert read_tree(str(tree / "a")).digest == hashlib.sha256(b"content").hexdigest()
    assert read_tree(str(tree / "a"), algorithm="md5").digest == hashlib.md5(b"content").hexdigest()  # noqa: S324


def test_a_tree_is_counted_and_listed(tree: Path) -> None:
    reading = read_tree(str(tree))
    assert [entry.path for entry in reading.entries] == ["a", "deep/b"]
    assert (reading.files, reading.links, reading.size, reading.problems) == (2, 0, 7, [])


def test_a_lock_is_no_content(tree: Path) -> None:
    before = read_tree(str(tree))
    (tree / "deep" / LOCK_FILE).write_text("somewhere, pid 1\n")
    assert read_tree(str(tree)) == before


@pytest.mark.parametrize("change", ["content", "name", "more"])
def test_any_change_shows(tree: Path, change: str) -> None:
    before = read_tree(str(tree)).digest
    if change == "content":
        (tree / "a").write_bytes(b"CONTENT")
    elif change == "name":
        (tree / "a").rename(tree / "A")
    else:
        (tree / "deep" / "c").touch()
    assert read_tree(str(tree)).digest != before


def test_where_the_tree_lies_does_not_count(tree: Path) -> None:
    before = read_tree(str(tree)).digest
    moved = tree.rename(tree.with_name("moved"))
    os.utime(moved / "a", (0, 0))
    (tree.with_name("link")).symlink_to(moved)
    assert read_tree(str(tree.with_name("link"))).digest == before


def test_names_that_are_odd_are_kept_apart(tree: Path) -> None:
    for name in (b"line\nbreak", b"\xff", b"\xfe", "\u00e9".encode()):
        (tree / os.fsdecode(name)).touch()
    reading = read_tree(str(tree))
    assert {entry.path for entry in reading.entries} >= {"line\nbreak", "\\xff", "\\xfe", "\u00e9"}
    assert reading.problems == []


def test_a_link_counts_as_its_target_or_as_what_is_there(tree: Path) -> None:
    (tree / "link").symlink_to("a")
    as_link = read_tree(str(tree))
    assert (as_link.files, as_link.links) == (2, 1)
    followed = read_tree(str(tree), follow=True)
    assert (followed.files, followed.links) == (3, 0)
    (tree / "link").unlink()
    (tree / "link").symlink_to("./a")
    assert read_tree(str(tree)).digest != as_link.digest
    assert read_tree(str(tree), follow=True).digest == followed.digest


def test_what_can_not_be_read_is_named_and_leaves_no_digest(tree: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "socket"))
        os.mkfifo(tree / "pipe")
        (tree / "dangling").symlink_to("nowhere")
        (tree / "deep" / "up").symlink_to("..")
        reading = read_tree(str(tree), follow=True)
    problems = "\n".join(reading.problems)
    for expected in ("socket: neither", "(pipe)", "dangling: No such file", "deep/up: a link leads back"):
        assert expected in problems
    assert reading.digest == ""
    assert [entry.path for entry in reading.entries] == ["a", "deep/b"]


def test_a_forbidden_file_is_named() -> None:
    # Not under pytest's folder, which nobody else may enter: root reads everything, so the child is somebody else.
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        (Path(name) / "a").write_text("content")
        (Path(name) / "a").chmod(0)
        problems, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            if os.geteuid() == 0:
                os.setuid(65534)
            os.write(theirs, "\n".join(read_tree(name).problems).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert b"a: Permission denied" in os.read(problems, 4096)


def test_nothing_at_all_is_a_problem(tmp_path: Path) -> None:
    reading = read_tree(str(tmp_path / "absent"))
    assert (reading.exists, reading.digest) == (False, "")
    assert "there is nothing" in reading.problems[0]


def test_a_file_that_grows_while_it_is_read_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = hashlib.new

    def appending(*arguments: object, **options: object) -> object:
        with open(tree / "a", "ab") as stream:
            stream.write(b"more")
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(file_digests.hashlib, "new", appending)
    reading = read_tree(str(tree / "a"))
    assert "changed while it was read" in reading.problems[0]
    assert reading.digest == ""
