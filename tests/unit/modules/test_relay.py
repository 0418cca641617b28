# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""file_server and file_fetch as real modules: what comes is whole and the controller's, or it does not come."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from unit.helpers import run_module, wait_for

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.mutual_proof import proof
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import processes
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.file_digests import read_tree
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.processes import Identity

KEY = "a one-time key"
FILES = {"a.bin": os.urandom(3_000_000), "sub/b.txt": b"b\n", "sub/empty": b"", "sub/name with space": b"x" * 1000}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "source" / "tree"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def servers() -> Iterator[list[Identity]]:
    """Servers that a test leaves behind."""
    started: list[Identity] = []
    yield started
    processes.signal_all(started, 9)


def entries(path: Path) -> list[dict[str, Any]]:
    return [entry._asdict() for entry in read_tree(str(path), follow=True).entries]


def offer(path: Path, listed: list[dict[str, Any]], servers: list[Identity], **options: Any) -> dict[str, Any]:
    arguments = {"path": str(path), "entries": listed, "address": "127.0.0.1", "key": KEY, "idle": 60, **options}
    result = run_module("file_server", arguments)
    if result.get("server"):
        servers.append(Identity(*result["server"]))
    return result


def fetch(path: Path, listed: list[dict[str, Any]], port: int, **options: Any) -> dict[str, Any]:
    check = options.pop("check", False)
    arguments = {"path": str(path), "entries": listed, "source": "127.0.0.1", "port": port, "key": KEY, **options}
    return run_module("file_fetch", arguments, check=check)


def contents(path: Path) -> dict[str, bytes]:
    return {str(name.relative_to(path)): name.read_bytes() for name in path.rglob("*") if name.is_file()}


def test_a_tree_goes_from_node_to_node_to_node(tree: Path, tmp_path: Path, servers: list[Identity]) -> None:
    listed = entries(tree)
    first = offer(tree, listed, servers)
    assert (first["held"], first["changed"]) == (True, False)
    second = fetch(tmp_path / "second" / "tree", listed, first["port"], address="127.0.0.1")
    servers.append(Identity(*second["server"]))
    assert (second["changed"], second["held"], second["problem"]) == (True, True, "")
    assert second["received"] == sum(map(len, FILES.values()))
    third = fetch(tmp_path / "third" / "tree", listed, second["port"])
    assert (third["held"], third["port"], third["server"]) == (True, 0, [])
    assert contents(tmp_path / "third" / "tree") == FILES
    again = fetch(tmp_path / "third" / "tree", listed, first["port"])
    assert (again["changed"], again["held"], again["received"]) == (False, True, 0)


def test_a_single_file_is_a_tree_of_one(tree: Path, tmp_path: Path, servers: list[Identity]) -> None:
    listed = entries(tree / "a.bin")
    port = offer(tree / "a.bin", listed, servers)["port"]
    result = fetch(tmp_path / "far" / "c.bin", listed, port)
    assert result["digest"] == hashlib.sha256(FILES["a.bin"]).hexdigest()
    assert (tmp_path / "far" / "c.bin").read_bytes() == FILES["a.bin"]


def test_an_interrupted_fetch_goes_on_where_it_stopped(tree: Path, tmp_path: Path, servers: list[Identity]) -> None:
    listed = entries(tree / "a.bin")
    port = offer(tree / "a.bin", listed, servers)["port"]
    partial = tmp_path / f".c.bin.{listed[0]['digest'][:12]}.part"
    partial.write_bytes(FILES["a.bin"][:2_000_000])
    result = fetch(tmp_path / "c.bin", listed, port)
    assert (result["held"], result["received"]) == (True, 1_000_000)
    assert (tmp_path / "c.bin").read_bytes() == FILES["a.bin"]
    assert not partial.exists()


def test_a_torn_part_is_thrown_away_and_the_next_fetch_begins_anew(
    tree: Path, tmp_path: Path, servers: list[Identity]
) -> None:
    listed = entries(tree / "a.bin")
    port = offer(tree / "a.bin", listed, servers)["port"]
    (tmp_path / f".c.bin.{listed[0]['digest'][:12]}.part").write_bytes(b"\0" * 2_000_000)
    assert "another digest" in fetch(tmp_path / "c.bin", listed, port)["problem"]
    assert list(tmp_path.glob("*c.bin*")) == list(tmp_path.glob(".*.part")) == []
    assert fetch(tmp_path / "c.bin", listed, port)["received"] == 3_000_000


def test_only_what_differs_comes_and_what_is_not_listed_stays(
    tree: Path, tmp_path: Path, servers: list[Identity]
) -> None:
    listed = entries(tree)
    port = offer(tree, listed, servers)["port"]
    target = tmp_path / "target"
    fetch(target, listed, port)
    (target / "sub" / "b.txt").write_bytes(b"c\n")  # of the same size
    (target / "mine").write_text("kept")
    (target / "sub" / ".b.txt.0123456789ab.part").write_text("of another content")
    result = fetch(target, listed, port)
    assert result["received"] == 2
    assert contents(target) == {**FILES, "mine": b"kept"}


def test_a_check_dials_nobody_and_writes_nothing(tree: Path, tmp_path: Path) -> None:
    listed = entries(tree)
    result = fetch(tmp_path / "new" / "tree", listed, 1, check=True)
    assert (result["changed"], result["held"]) == (True, False)
    assert not (tmp_path / "new").exists()
    assert fetch(tree, listed, 1, check=True)["changed"] is False


def test_a_source_with_other_content_is_found_out(tree: Path, tmp_path: Path, servers: list[Identity]) -> None:
    listed = entries(tree)
    port = offer(tree, listed, servers)["port"]
    (tree / "a.bin").write_bytes(b"\0" * 3_000_000)
    result = fetch(tmp_path / "t", listed, port)
    assert (result["held"], result["port"]) == (False, 0)
    assert "a.bin came with another digest" in result["problem"]
    assert not (tmp_path / "t" / "a.bin").exists()
    (tree / "a.bin").write_bytes(b"short")
    assert "another size" in fetch(tmp_path / "t", listed, port)["problem"]
    (tree / "a.bin").unlink()
    assert "No such file" in fetch(tmp_path / "t", listed, port)["problem"]


def test_a_node_offers_what_it_holds_and_reads_it_in_full_when_it_needs_it(
    tree: Path, tmp_path: Path, servers: list[Identity]
) -> None:
    listed = entries(tree)
    assert offer(tmp_path / "nothing", listed, servers)["port"] == 0
    (tree / "sub" / "b.txt").write_bytes(b"c\n")
    assert offer(tree, listed, servers)["held"]
    assert not offer(tree, listed, servers, wanted=True)["held"]
    assert len(servers) == 1


def rest_of(reader: BinaryIO) -> bytes:
    """What still comes; a server that closes with something unread resets the connection."""
    try:
        return reader.read()
    except ConnectionResetError:
        return b""


def test_nobody_without_the_key_gets_a_byte(tree: Path, tmp_path: Path, servers: list[Identity]) -> None:
    listed = entries(tree)
    port = offer(tree, listed, servers)["port"]
    result = fetch(tmp_path / "t", listed, port, key="another key")
    assert "the connection was closed" in result["problem"]
    with socket.create_connection(("127.0.0.1", port), 10) as stranger, stranger.makefile("rb") as reader:
        nonce = json.loads(reader.readline())["nonce"]
        wrong = proof("guess", "client", "relay", nonce, "0" * 32)
        stranger.sendall(json.dumps({"nonce": "0" * 32, "proof": wrong}).encode() + b"\n")
        stranger.sendall(b'{"file": 0, "offset": 0}\n')
        assert rest_of(reader) == b""
    # One's proof shown back is not the other's.
    with socket.create_connection(("127.0.0.1", port), 10) as mirror, mirror.makefile("rb") as reader:
        nonce = json.loads(reader.readline())["nonce"]
        mirror.sendall(
            json.dumps({"nonce": nonce, "proof": proof(KEY, "server", "relay", nonce, nonce)}).encode() + b"\n"
        )
        assert rest_of(reader) == b""


def test_a_server_that_does_not_know_the_key_is_not_believed(tree: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as impostor:

        def answer() -> None:
            connection = impostor.accept()[0]
            with connection, connection.makefile("rb") as reader:
                connection.sendall(json.dumps({"nonce": "1" * 32}).encode() + b"\n")
                reader.readline()
                connection.sendall(json.dumps({"proof": "2" * 64}).encode() + b"\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        result = fetch(tmp_path / "t", entries(tree), impostor.getsockname()[1])
        thread.join(10)
    assert "does not know the key" in result["problem"]


def test_a_source_that_is_not_there_is_a_problem_and_no_failure(tree: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    result = fetch(tmp_path / "t", entries(tree), port)
    assert "refused" in result["problem"]
    assert not result.get("failed")


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../b", "a//b"])
def test_nothing_is_written_outside_the_tree(tmp_path: Path, path: str) -> None:
    listed = [{"path": path, "kind": "file", "size": 1, "digest": "0" * 64}]
    assert "no file inside the tree" in fetch(tmp_path / "t", listed, 1)["msg"]
    link = [{"path": "a", "kind": "link", "size": 1, "digest": "0" * 64}]
    assert "no file inside the tree" in fetch(tmp_path / "t", link, 1)["msg"]


def test_a_disk_that_is_too_small_is_named_before_anything_is_written(tmp_path: Path) -> None:
    listed = [{"path": "", "kind": "file", "size": 1 << 60, "digest": "0" * 64}]
    result = fetch(tmp_path / "new" / "huge", listed, 1)
    assert result["failed"]
    for words in ("too small", str(tmp_path), "1073741824.00 GiB", "free are", "axolotl_root"):
        assert words in result["msg"]
    assert not list(tmp_path.glob("new/*"))


def test_a_server_goes_by_itself_and_when_it_is_told(tree: Path, servers: list[Identity]) -> None:
    listed = entries(tree)
    for limits in ({"idle": 0.5}, {"seconds": 0.5}):
        identity = Identity(*offer(tree, listed, servers, **limits)["server"])
        wait_for(lambda identity=identity: not processes.is_alive(identity))  # type: ignore[misc]
    identity = Identity(*offer(tree, listed, servers)["server"])
    assert os.getsid(identity.pid) != os.getsid(0)
    closed = offer(tree, [], servers, close=list(identity))
    assert (closed["port"], closed["server"]) == (0, [])
    assert not processes.is_alive(identity)


def test_the_key_is_on_no_command_line(tree: Path, servers: list[Identity]) -> None:
    identity = Identity(*offer(tree, entries(tree), servers)["server"])
    assert KEY.encode() not in Path(f"/proc/{identity.pid}/cmdline").read_bytes()
    assert KEY not in json.dumps(offer(tree, entries(tree), servers))
