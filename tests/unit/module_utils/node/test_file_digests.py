# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tree on disk is read completely, or it is said what could not be read."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import blake3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.helpers import wait_for

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.digest_algorithms import AlgorithmMissing
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.digest_record import MARGIN_NS, Record, stamp_of
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.manifest import Entry, root_digest
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import file_digests
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.digest_cache import DigestCache
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.file_digests import LARGE, TreeReading, read_tree
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.file_hash import CHUNK, FileHasher
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
    (tree / os.fsdecode(b"\xff")).rename(tree / "\\xff")
    assert read_tree(str(tree)).digest not in ("", reading.digest)


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


def test_one_file_that_is_large_has_the_digest_that_every_tool_gives(tmp_path: Path) -> None:
    for size in (LARGE - 1, LARGE, CHUNK, CHUNK + 1, 3 * CHUNK - 1):
        content = random.randbytes(size)
        (tmp_path / "file").write_bytes(content)
        reading = read_tree(str(tmp_path / "file"))
        assert (reading.digest, reading.size) == (hashlib.sha256(content).hexdigest(), size)
        assert read_tree(str(tmp_path / "file"), algorithm="blake3").digest == blake3.blake3(content).hexdigest()


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_a_tree_of_large_and_small_files_has_one_digest(
    tree: Path, workers: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_digests, "_MOST_WAITING", 2)
    expected = [("a", b"content"), ("deep/b", b"")]
    for number in range(8):
        expected.append((f"deep/shard-{number}", random.randbytes(LARGE + number)))
        (tree / expected[-1][0]).write_bytes(expected[-1][1])
    reading = read_tree(str(tree), workers=workers)
    entries = [Entry(path, "file", len(data), hashlib.sha256(data).hexdigest()) for path, data in expected]
    assert (reading.entries, reading.digest) == (entries, root_digest(entries))


def test_large_files_are_digested_at_the_same_time(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits in the middle for the other one."""
    for name in ("one", "two"):
        (tree / name).write_bytes(bytes(LARGE))
    both, real = threading.Barrier(2, timeout=30), FileHasher.digest

    def meeting(hasher: FileHasher, handle: int, before: os.stat_result) -> str:
        if before.st_size >= LARGE:
            both.wait()
        return real(hasher, handle, before)

    monkeypatch.setattr(FileHasher, "digest", meeting)
    assert read_tree(str(tree), workers=2).problems == []


def test_an_algorithm_that_is_not_there_is_an_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "blake3", None)
    with pytest.raises(AlgorithmMissing, match="install the package"):
        read_tree(str(tree), algorithm="blake3")


# Order and locale

LISTED_SHUFFLED = """
import json, os, random, sys
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.file_digests import read_tree

class Shuffled(list):
    __enter__ = lambda self: self
    __exit__ = lambda self, *_: None

real = os.scandir
def scandir(path):
    with real(path) as listing:
        items = list(listing)
    random.shuffle(items)
    return Shuffled(items)

os.scandir = scandir
random.seed(int(sys.argv[2]))
print(json.dumps(read_tree(sys.argv[1])))
"""


def test_neither_locale_nor_order_count(tree: Path) -> None:
    names = [b"B", b"\xc3\xa9", b"\xff", b"z", b"_", b"a-b", b"a.b", b"Z\n", b"deep.x", b"deep-x", b"10", b"9"]
    for name in names:
        (tree / os.fsdecode(name)).write_bytes(name)
        (tree / "deep" / os.fsdecode(name)).mkdir()
        (tree / "deep" / os.fsdecode(name) / "file").write_bytes(name)
    here = read_tree(str(tree))
    assert here.files == 2 + 2 * len(names)
    for seed, settings_ in enumerate(
        [{"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
    ):
        done = subprocess.run(
            [sys.executable, "-c", LISTED_SHUFFLED, str(tree), str(seed)],
            env={**os.environ, **settings_},
            check=True,
            capture_output=True,
            timeout=60,
        )
        assert json.loads(done.stdout) == json.loads(json.dumps(here))


trees = st.dictionaries(
    st.lists(st.sampled_from(["a", "b", "a-", "c\n", "\u00e9"]), min_size=1, max_size=3).map("/".join),
    st.binary(max_size=2),
    min_size=1,
    max_size=5,
).filter(lambda files: not any(one.startswith(f"{other}/") for one in files for other in files))


def write(folder: str, files: dict[str, bytes]) -> TreeReading:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        for path, content in files.items():
            place = Path(name, path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        return read_tree(name)


@settings(max_examples=60, deadline=None)
@given(trees, trees)
def test_trees_have_one_digest_exactly_when_they_hold_the_same(
    first: dict[str, bytes], second: dict[str, bytes]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one, other = write(folder, first), write(folder, second)
        again = write(folder, dict(reversed(first.items())))
    assert one == again
    assert (one.digest == other.digest) == (first == second)
    assert {entry.path: entry.size for entry in one.entries} == {path: len(data) for path, data in first.items()}


# What can't be read


def as_nobody(task: Callable[[], object]) -> str:
    """What a task gives in a process that is not root, since root may read everything."""
    theirs, ours = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            os.write(ours, str(task()).encode())
        finally:
            os._exit(0)
    os.close(ours)
    os.waitpid(child, 0)
    with open(theirs, encoding="utf-8") as stream:
        return stream.read()


@pytest.mark.parametrize("forbidden", ["a", "large", "deep"])
def test_what_is_forbidden_is_named(forbidden: str) -> None:
    # Not under pytest's folder, which nobody else may enter.
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        (Path(name) / "a").write_text("content")
        (Path(name) / "large").write_bytes(bytes(LARGE))
        (Path(name) / "deep").mkdir()
        (Path(name) / forbidden).chmod(0)
        said = as_nobody(lambda: [read_tree(name).digest, *read_tree(name).problems])
        assert said == str(["", f"{name}/{forbidden}: Permission denied"])
        below = as_nobody(lambda: read_tree(f"{name}/deep/below").problems)
        assert ("Permission denied" if forbidden == "deep" else "there is nothing") in below
        (Path(name) / forbidden).chmod(0o700)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("absent", "absent: there is nothing"),
        ("a/below", "a/below: Not a directory"),
        ("nul\0", "nul\\x00: embedded null byte"),
        ("line\nbreak", "line\\nbreak: there is nothing"),
        ("\udcff", "\\xff: there is nothing"),
        ("\ud800", "\\ud800: "),
        ("x" * 300, "File name too long"),
        ("x/" * 3000, "File name too long"),
        ("dangling", "dangling: No such file"),
        ("loop", "loop: Too many levels of symbolic links"),
        ("pipe", "pipe: neither file, folder nor link (pipe)"),
    ],
)
def test_a_path_that_leads_to_nothing_is_one_clear_line(tree: Path, path: str, problem: str) -> None:
    (tree / "dangling").symlink_to("nowhere")
    (tree / "loop").symlink_to("loop")
    os.mkfifo(tree / "pipe")
    reading = read_tree(f"{tree}/{path}")
    assert (reading.digest, reading.entries) == ("", [])
    assert reading.exists == (path in ("dangling", "loop", "pipe"))
    assert len(reading.problems) == 1
    assert problem in reading.problems[0]
    assert reading.problems[0].isprintable()
    assert len(reading.problems[0]) < 500


def test_a_loop_of_links_is_text_or_a_problem(tree: Path) -> None:
    (tree / "one").symlink_to("two")
    (tree / "two").symlink_to("one")
    assert (read_tree(str(tree)).links, read_tree(str(tree)).problems) == (2, [])
    followed = read_tree(str(tree), follow=True)
    assert followed.digest == ""
    assert [problem.partition(": ")[2] for problem in followed.problems] == ["Too many levels of symbolic links"] * 2


def test_two_ways_to_one_folder_are_no_loop(tree: Path) -> None:
    (tree / "other").symlink_to("deep")
    reading = read_tree(str(tree), follow=True)
    assert [entry.path for entry in reading.entries] == ["a", "deep/b", "other/b"]
    assert reading.problems == []


def test_links_that_never_end_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each folder has two links to the next one: 2^30 paths without a loop."""
    monkeypatch.setattr(file_digests, "MAX_ENTRIES", 500)
    for number in range(30):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "left").symlink_to(f"../{number + 1}")
        (tmp_path / f"{number}" / "right").symlink_to(f"../{number + 1}")
    (tmp_path / "30").mkdir()
    reading = read_tree(str(tmp_path / "0"), follow=True)
    assert reading.digest == ""
    assert "0: it holds more than 500 files, links and folders" in reading.problems[0]


def test_of_many_problems_some_are_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_digests, "MAX_PROBLEMS", 2)
    for name in ("p1", "p2", "p3", "p4"):
        os.mkfifo(tree / name)
    reading = read_tree(str(tree))
    assert reading.digest == ""
    assert [problem.rpartition("/")[2][:2] for problem in reading.problems[:2]] == ["p1", "p2"]
    assert reading.problems[2:] == ["2 more can't be read"]


@pytest.fixture
def well(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A folder with so many folders in one another and a file at the bottom. They move in: no path gets too long."""
    top, inner = tmp_path / "top", tmp_path / "inner"
    depths = []

    def dig(depth: int) -> Path:
        top.mkdir()
        (top / "file").write_bytes(b"content")
        for _step in range(depth):
            inner.mkdir()
            top.rename(inner / "0")
            inner.rename(top)
        depths.append(depth)
        return top

    yield dig
    for _step in range(sum(depths)):  # shutil.rmtree calls itself once for each
        (top / "0").rename(inner)
        top.rmdir()
        inner.rename(top)


def test_a_tree_may_be_deeper_than_python_calls_itself(well: Callable[[int], Path]) -> None:
    depth = sys.getrecursionlimit() + 200
    reading = read_tree(str(well(depth)))
    assert reading.problems == []
    assert [entry.path for entry in reading.entries] == ["0/" * depth + "file"]


def test_what_lies_deeper_than_a_path_is_long_is_named(well: Callable[[int], Path]) -> None:
    reading = read_tree(str(well(2500)))
    assert reading.digest == ""
    assert [problem.rpartition(": ")[2] for problem in reading.problems] == ["File name too long"]


# What changes meanwhile


@pytest.fixture(params=["small", "large"])
def changing(request: pytest.FixtureRequest, tree: Path) -> Path:
    """A file in the tree, and long ago was the last change: clocks of file systems may tick too slowly for a test."""
    path = tree / "changing"
    path.write_bytes(bytes(100 if request.param == "small" else 2 * LARGE))
    for old in (path, tree, tree / "deep"):
        os.utime(old, (1, 1))
    return path


def during(monkeypatch: pytest.MonkeyPatch, name: str, path: Path, change: Callable[[], object]) -> None:
    """Make a change once, just before a function of `os` is called for a file."""
    real, done = getattr(os, name), []

    def changing(target: bytes | int, *arguments: object, **options: object) -> object:
        found = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else os.fsdecode(target)
        if not done and found == str(path):
            done.append(True)
            change()
        return real(target, *arguments, **options)

    monkeypatch.setattr(os, name, changing)


def put_in_place(path: Path) -> None:
    path.with_name("new").write_bytes(path.read_bytes())
    os.utime(path.with_name("new"), (1, 1))
    path.with_name("new").rename(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "other content": lambda path: path.write_bytes(b"x" * path.stat().st_size),
    "grown": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "truncated": lambda path: os.truncate(path, 10),
    "emptied": lambda path: os.truncate(path, 0),
    "replaced": put_in_place,
    "removed": Path.unlink,
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_file_that_changes_while_it_is_read_is_named(
    changing: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    during(monkeypatch, "readv", changing, lambda: CHANGES[change](changing))
    reading = read_tree(str(changing))
    assert reading.problems == [f"{changing}: it changed while it was read"]
    assert reading.digest == ""


def to_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("a")


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (Path.unlink, "No such file or directory"),
        (to_link, "Too many levels of symbolic links"),
        (to_pipe, "neither file, folder nor link (pipe)"),
    ],
)
def test_a_file_that_is_no_more_what_was_listed_is_named(
    changing: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], problem: str
) -> None:
    during(monkeypatch, "open", changing, lambda: change(changing))
    reading = read_tree(str(changing.parent))
    assert f"{changing}: {problem}" in reading.problems
    assert reading.digest == ""


@pytest.mark.parametrize("change", ["a new file", "a file less", "another folder"])
def test_a_folder_that_changes_while_it_is_read_is_named(
    changing: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    tree, deep = changing.parent, changing.parent / "deep"
    (tree.parent / "deep").mkdir()
    (tree.parent / "deep" / "b").touch()
    os.utime(tree.parent / "deep", (1, 1))

    def change_it() -> None:
        if change == "a new file":
            (deep / "new").touch()
        elif change == "a file less":
            (deep / "b").unlink()
        else:
            deep.rename(tree.parent / "old")
            (tree.parent / "deep").rename(deep)
            os.utime(tree, (1, 1))

    # A folder is looked at for the first time before it is listed, and then after everything was read.
    real, looks = os.lstat, []

    def lstat(path: bytes) -> os.stat_result:
        if path == os.fsencode(deep):
            looks.append(path)
            if len(looks) == 2:
                change_it()
        return real(path)

    monkeypatch.setattr(os, "lstat", lstat)
    reading = read_tree(str(tree))
    assert reading.problems == [f"{deep}: its list of files changed while it was read"]
    assert reading.digest == ""


@pytest.mark.parametrize("ends", ["too early", "with an error"])
def test_a_disk_that_fails_is_named(changing: Path, monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    def readv(_handle: int, _buffers: object) -> int:
        if ends == "with an error":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return 0

    monkeypatch.setattr(os, "readv", readv)
    reading = read_tree(str(changing))
    size = changing.stat().st_size
    said = "Input/output error" if ends == "with an error" else f"it should have {size} bytes, and 0 could be read"
    assert (reading.digest, reading.problems) == ("", [f"{changing}: {said}"])


# Kept digests


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is some seconds later, so that the files of the test have settled."""
    monkeypatch.setattr(file_digests, "time", SimpleNamespace(time_ns=lambda: time.time_ns() + 2 * MARGIN_NS))


def test_a_large_file_is_not_read_again(tree: Path, tmp_path: Path, later: None) -> None:
    (tree / "large").write_bytes(random.randbytes(LARGE))
    first = read_tree(str(tree), cache=DigestCache(str(tmp_path / "cache")))
    assert (first.cached_files, first.cached_size) == (0, 0)
    again = read_tree(str(tree), cache=DigestCache(str(tmp_path / "cache")))
    assert (again.cached_files, again.cached_size) == (1, LARGE)
    assert again._replace(cached_files=0, cached_size=0) == first == read_tree(str(tree))


@pytest.mark.parametrize("change", ["other content", "grown", "truncated", "replaced"])
def test_a_large_file_that_has_changed_is_read_again(tree: Path, tmp_path: Path, later: None, change: str) -> None:
    (tree / "large").write_bytes(bytes(2 * LARGE))
    os.utime(tree / "large", (1, 1))
    read_tree(str(tree), cache=DigestCache(str(tmp_path / "cache")))
    before = (tree / "large").stat().st_ctime_ns
    CHANGES[change](tree / "large")

    def looks_untouched() -> bool:
        """Put its time back, as `cp -p` does; the kernel's own clock for files may need a few milliseconds to tick."""
        os.utime(tree / "large", (1, 1))
        return (tree / "large").stat().st_ctime_ns != before

    wait_for(looks_untouched)
    reading = read_tree(str(tree), cache=DigestCache(str(tmp_path / "cache")))
    assert reading.cached_files == 0
    assert reading == read_tree(str(tree))


def test_a_file_that_was_just_written_is_not_believed(tree: Path, tmp_path: Path) -> None:
    (tree / "large").write_bytes(bytes(LARGE))
    for _time in range(2):
        assert read_tree(str(tree), cache=DigestCache(str(tmp_path / "cache"))).cached_files == 0
    assert not (tmp_path / "cache").exists()


def test_one_algorithms_digest_is_not_given_for_another(tree: Path, tmp_path: Path, later: None) -> None:
    (tree / "large").write_bytes(bytes(LARGE))
    for algorithm in ("sha256", "blake3", "md5"):
        for times in (0, 1):
            reading = read_tree(str(tree), algorithm=algorithm, cache=DigestCache(str(tmp_path / "cache")))
            assert reading.cached_files == times
            assert reading.digest == read_tree(str(tree), algorithm=algorithm).digest


def test_only_reading_all_again_finds_what_changed_without_a_write(tree: Path, tmp_path: Path, later: None) -> None:
    """A bit that rots leaves the times as they are: then what is kept is wrong, and nobody can see it."""
    (tree / "large").write_bytes(bytes(LARGE))
    rotten = Record("sha256", stamp_of((tree / "large").stat()), time.time_ns() + 2 * MARGIN_NS, "ab" * 32)
    cache = DigestCache(str(tmp_path / "cache"))
    cache.add(rotten)
    cache.save()
    assert read_tree(str(tree / "large"), cache=DigestCache(str(tmp_path / "cache"))).digest == "ab" * 32
    true = read_tree(str(tree / "large"), cache=DigestCache(str(tmp_path / "cache"), look_up=False))
    assert (true.digest, true.cached_files) == (hashlib.sha256(bytes(LARGE)).hexdigest(), 0)
    assert read_tree(str(tree / "large"), cache=DigestCache(str(tmp_path / "cache"))) == true._replace(
        cached_files=1, cached_size=LARGE
    )


def test_a_file_that_changed_while_it_was_read_is_not_kept(
    changing: Path, tmp_path: Path, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    during(monkeypatch, "readv", changing, lambda: CHANGES["other content"](changing))
    assert read_tree(str(changing), cache=DigestCache(str(tmp_path / "cache"))).problems
    assert not (tmp_path / "cache").exists()
