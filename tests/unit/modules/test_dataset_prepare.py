# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dataset_prepare as a real module; a program stands for Axolotl, and makes what Axolotl was seen to make."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from unit.helpers import run_module
from unit.prepared import NAME

RECORD = ".gpufleet-prepared.json"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SECRET = "s3cr3t-token-of-nobody"
AXOLOTL = f"""#!{sys.executable}
import json, os, pathlib, sys
assert sys.argv[1] == "preprocess", sys.argv
config = json.loads(open(sys.argv[2]).read())
options = dict(word[2:].split("=", 1) for word in sys.argv[3:])
with open("seen.json", "a") as seen:
    json.dump({{"argv": sys.argv[1:], "environment": dict(os.environ), "cwd": os.getcwd()}}, seen)
    seen.write("\\n")
print("tokenizing with", os.environ.get("HF_TOKEN"))
folder = pathlib.Path(options["dataset-prepared-path"], "{NAME}")
if config.get("fails"):
    folder.mkdir()
    (folder / "data-00000-of-00001.arrow").touch()
    sys.exit("CUDA is on fire")
if not config.get("prepares_nothing"):
    folder.mkdir()
    (folder / "data-00000-of-00001.arrow").write_text(open("data.jsonl").read().upper())
    (folder / "dataset_info.json").write_text("{{}}")
    (folder / "state.json").write_text(json.dumps({{"_data_files": [{{"filename": "data-00000-of-00001.arrow"}}]}}))
if config.get("changes_data"):
    open("data.jsonl", "a").write("more")
if config.get("downloads"):
    commit = pathlib.Path("cache/snapshots/{COMMIT}")
    commit.mkdir(parents=True, exist_ok=True)
    pathlib.Path("cache/refs").mkdir(exist_ok=True)
    pathlib.Path("cache/refs/main").write_text(commit.name)
"""


class Node:
    """A node with a release, a config and a file of data."""

    def __init__(self, root: Path) -> None:
        self.work, self.prepared = root / "work", root / "work" / "prepared"
        program = root / "releases" / "abc-def" / "venv" / "bin" / "axolotl"
        program.parent.mkdir(parents=True)
        program.write_text(AXOLOTL)
        program.chmod(0o755)
        (root / "current").symlink_to("releases/abc-def")
        self.work.mkdir()
        self.data, self.config = self.work / "data.jsonl", self.work / "train.yml"
        self.data.write_text("rows")
        self.configure()
        self.inputs: list[dict[str, Any]] = [
            {"name": "data.jsonl", "path": str(self.data), "kind": "path", "prepares": True},
            {"name": "weights", "path": str(self.work / "absent"), "kind": "path", "prepares": False},
        ]
        self.arguments: dict[str, Any] = {
            "path": str(self.prepared),
            "release": str(root / "current"),
            "config": str(self.config),
            "work": str(self.work),
            "environment": {"HOME": str(self.work), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": 1},
            "log": str(self.work / "preprocess.log"),
        }

    def configure(self, **config: Any) -> None:
        self.config.write_text(json.dumps(config))

    def run(self, check: bool = False, **arguments: Any) -> dict[str, Any]:
        return run_module("dataset_prepare", {**self.arguments, "inputs": self.inputs, **arguments}, check=check)

    def compare(self, expect: str) -> bool:
        return bool(
            run_module("dataset_prepare", {"path": str(self.prepared), "state": "compared", "expect": expect})["same"]
        )

    def record(self) -> dict[str, Any]:
        return dict(json.loads((self.prepared / RECORD).read_text()))

    def rows(self) -> str:
        return (self.prepared / NAME / "data-00000-of-00001.arrow").read_text()

    def runs(self) -> list[dict[str, Any]]:
        """How Axolotl was run, each time."""
        path = self.work / "seen.json"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def left(self) -> set[str]:
        return {entry.name for entry in self.prepared.iterdir()}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "node0")


def test_what_is_prepared_is_noted_and_not_prepared_again(node: Node) -> None:
    first = node.run(options=["--sequence-len=64"])
    assert first["changed"] is True, first
    assert node.rows() == "ROWS"
    assert node.left() == {RECORD, NAME}
    record = node.record()
    assert list(record["folders"]) == [NAME]
    assert list(record["inputs"]) == ["data.jsonl"]
    assert (record["options"], record["release"]) == (["--sequence-len=64"], "abc-def")
    second = node.run(options=["--sequence-len=64"])
    assert (second["changed"], second["digest"]) == (False, first["digest"])
    assert len(node.runs()) == 1


def test_axolotl_runs_as_a_trainer_does(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_SESSION", "1")
    result = node.run(secrets={"HF_TOKEN": SECRET}, options=["--sequence-len=64"])
    (seen,) = node.runs()
    assert seen["argv"][:3] == ["preprocess", str(node.config), "--sequence-len=64"]
    assert seen["cwd"] == str(node.work)
    environment = seen["environment"]
    assert (environment["HF_TOKEN"], environment["OMP_NUM_THREADS"]) == (SECRET, "1")
    assert "OF_THE_SESSION" not in environment
    assert environment["PATH"].split(":")[0].endswith("/releases/abc-def/venv/bin")
    assert SECRET not in str(seen["argv"])
    assert SECRET not in str(result)
    log = node.work / "preprocess.log"
    assert f"tokenizing with {SECRET}" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


@pytest.mark.parametrize("what", ["data", "config", "options", "release", "rows", "record"])
def test_what_is_out_of_date_or_damaged_is_prepared_anew(node: Node, tmp_path: Path, what: str) -> None:
    node.run()
    options = []
    if what == "data":
        node.data.write_text("other")
    elif what == "config":
        node.configure(learning_rate=1)
    elif what == "options":
        options = ["--sequence-len=64"]
    elif what == "release":
        (tmp_path / "node0/releases/abc-def").rename(tmp_path / "node0/releases/new")
        (tmp_path / "node0/current").unlink()
        (tmp_path / "node0/current").symlink_to("releases/new")
    elif what == "rows":
        (node.prepared / NAME / "data-00000-of-00001.arrow").write_text("damaged")
    else:
        (node.prepared / RECORD).unlink()
    before = node.left()
    assert node.run(check=True, options=options)["changed"] is True
    assert (node.left(), len(node.runs())) == (before, 1), "a check changed something"
    assert node.run(options=options)["changed"] is True
    assert node.rows() == node.data.read_text().upper()
    assert node.run(options=options)["changed"] is False
    assert len(node.runs()) == 2


def test_a_check_before_anything_is_there_predicts_it(node: Node) -> None:
    node.data.unlink()
    assert node.run(check=True) == node.run(check=True) | {"changed": True, "digest": "", "entries": []}
    assert not node.prepared.exists()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"fails": True}, "axolotl preprocess failed: CUDA is on fire; see"),
        ({"prepares_nothing": True}, "prepared no dataset: nothing is there"),
        ({"changes_data": True}, "the data changed while it was prepared"),
    ],
)
def test_what_fails_leaves_what_was_there(node: Node, config: dict[str, Any], said: str) -> None:
    node.run()
    record = node.record()
    node.configure(**config)
    result = node.run()
    assert said in result["msg"]
    assert (node.left(), node.record(), node.rows()) == ({RECORD, NAME}, record, "ROWS")


def test_a_message_shows_no_secret(node: Node) -> None:
    node.configure(fails=True)
    result = node.run(secrets={"HF_TOKEN": "CUDA is on fire"})
    assert result["failed"] is True
    assert "on fire" not in str(result["msg"])


def test_data_that_can_not_be_read_prepares_nothing(node: Node) -> None:
    node.data.unlink()
    assert "there is nothing" in node.run()["msg"]
    assert node.runs() == []


def test_a_config_that_prepares_no_dataset_is_refused(node: Node) -> None:
    assert "set training_files_preprocess to never" in node.run(path="")["msg"]


def test_it_ends_in_time(node: Node, tmp_path: Path) -> None:
    program = tmp_path / "node0/releases/abc-def/venv/bin/axolotl"
    program.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(600)\n")
    assert "did not end in time" in node.run(timeout=1)["msg"]
    assert node.left() == set()


def test_what_an_attempt_left_that_was_cut_off_is_removed(node: Node) -> None:
    leftover = node.prepared / ".gpufleet-preparing-x" / NAME
    leftover.mkdir(parents=True)
    node.run()
    assert node.left() == {RECORD, NAME}


def test_other_prepared_datasets_are_left_alone(node: Node) -> None:
    other = node.prepared / ("a" * 32)
    other.mkdir(parents=True)
    (other / "state.json").write_text("{}")
    node.run()
    assert (other / "state.json").exists()


def test_what_the_hub_gives_meanwhile_is_noted(node: Node) -> None:
    repository = str(node.work / "cache")
    node.inputs.append(
        {
            "name": "model",
            "path": str(node.work / "org/model"),
            "kind": "hub",
            "repository": repository,
            "revision": "main",
            "prepares": True,
        }
    )
    node.configure(downloads=True)
    assert node.run()["changed"] is True
    assert node.record()["inputs"]["model"] == COMMIT
    assert node.run()["changed"] is False


def test_another_node_that_gets_the_entries_has_the_same(node: Node, tmp_path: Path) -> None:
    made = node.run()
    other = Node(tmp_path / "node1")
    assert other.compare(made["digest"]) is False
    assert other.compare("") is False
    for entry in made["entries"]:
        place = other.prepared / entry["path"]
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(node.prepared / entry["path"], place)
    assert other.compare(made["digest"]) is True
    assert other.run()["changed"] is False, "it was made from the same data"
    other.data.write_text("other")
    assert other.run()["changed"] is True
    assert other.compare(made["digest"]) is False
