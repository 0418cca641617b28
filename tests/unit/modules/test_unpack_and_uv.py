# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""file_unpack and uv_install as real modules: what is missing comes once, whole, and by whoever is first."""

from __future__ import annotations

import os
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from unit.helpers import run_module

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.file_digests import read_tree

FILES = {"a.bin": os.urandom(300_000), "sub/b.txt": b"b\n"}


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, Any]:
    """What file_unpack gets, with an archive in its place."""
    tree = tmp_path / "source"
    for name, content in FILES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    with tarfile.open(tmp_path / "tree.tar", "w") as archive:
        for name in FILES:
            archive.add(tree / name, name)
    entries = [entry._asdict() for entry in read_tree(str(tree)).entries]
    return {"path": str(tmp_path / "tree"), "entries": entries, "archive": str(tmp_path / "tree.tar")}


def test_what_is_missing_or_differs_is_unpacked(arguments: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.bin").write_bytes(b"cut off")
    (tmp_path / "tree" / "mine").touch()
    result = run_module("file_unpack", arguments)
    assert (result["changed"], result["unpacked"]) == (True, 2)
    assert {name: (tmp_path / "tree" / name).read_bytes() for name in FILES} == FILES
    assert {path.name for path in (tmp_path / "tree").iterdir()} == {"a.bin", "sub", "mine"}
    assert {path.name for path in tmp_path.iterdir()} == {"source", "tree"}


def test_the_second_of_two_needs_no_archive(arguments: dict[str, Any], tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _number: run_module("file_unpack", arguments), range(2)))
    assert sorted(result["unpacked"] for result in results) == [0, 2], results
    assert {name: (tmp_path / "tree" / name).read_bytes() for name in FILES} == FILES


def test_an_archive_of_something_else_is_refused(arguments: dict[str, Any], tmp_path: Path) -> None:
    arguments["entries"][0]["digest"] = "0" * 64
    assert "a.bin came with another digest than the controller's" in run_module("file_unpack", arguments)["msg"]
    assert list((tmp_path / "tree").iterdir()) == []
    arguments["entries"][0]["path"] = "c"
    assert "holds no file c" in run_module("file_unpack", arguments)["msg"]


def make_pip(folder: Path, log: Path) -> list[str]:
    """A command that makes a "virtual environment" whose pip installs a uv that says its version."""
    script = folder / "make-venv"
    python = f'#!/bin/sh\necho "$@" >>{log}\nsleep 0.2\nprintf \'#!/bin/sh\\necho uv 1.2.3\\n\' >"${{0%/*}}/uv"\n'
    text = (
        f'#!{sys.executable}\nimport os, sys\nfolder = os.path.join(sys.argv[-1], "bin")\nos.makedirs(folder)\n'
        f'for name, text in {{"python": {python + "chmod +x ${0%/*}/uv" + chr(10)!r}, "pip": ""}}.items():\n'
        "    path = os.path.join(folder, name)\n    open(path, 'w').write(text)\n    os.chmod(path, 0o755)\n"
    )
    script.write_text(text)
    script.chmod(0o755)
    return [str(script)]


def test_two_that_install_uv_at_once_install_it_once(tmp_path: Path) -> None:
    log, tools = tmp_path / "log", tmp_path / "tools"
    arguments = {"path": str(tools), "version": "1.2.3", "virtualenv_command": make_pip(tmp_path, log)}
    assert run_module("uv_install", arguments, check=True)["changed"] is True
    assert not tools.exists()
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _number: run_module("uv_install", arguments), range(2)))
    assert sorted(result["changed"] for result in results) == [False, True], results
    assert log.read_text().splitlines() == ["-m pip install --quiet --disable-pip-version-check uv==1.2.3"]
    assert {path.name for path in tools.iterdir()} == {"bin"}


def test_a_step_that_fails_is_told(tmp_path: Path) -> None:
    arguments = {"path": str(tmp_path / "tools"), "virtualenv_command": ["/bin/sh", "-c", "echo no venv >&2; exit 3"]}
    assert "no venv" in run_module("uv_install", arguments)["msg"]
    arguments = {"path": str(tmp_path / "tools"), "virtualenv_command": make_pip(tmp_path, tmp_path / "log")}
    run_module("uv_install", {**arguments, "find_links": "/srv/wheels"})
    assert (tmp_path / "log").read_text().split()[-4:] == ["--no-index", "--find-links", "/srv/wheels", "uv"]
