# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is published elsewhere reaches every node in one version, fetched once for the fleet."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.published import REVISION, Site, hub, web_site
from support.small_fleet import SmallFleet, changed
from unit.helpers import run_module
from unit.releases import git

DATA = b'{"text": "x"}\n' * 1000
MODEL = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 5000}


@pytest.fixture
def site() -> Iterator[Site]:
    with web_site({"data.jsonl": DATA}) as site:
        yield site


def sources(folder: Path, site: Site) -> list[dict[str, str]]:
    """A file from the site, and the files of a repository's commit."""
    repository = folder / "data-repository"
    (repository / "deep").mkdir(parents=True)
    (repository / "deep" / "eval.jsonl").write_bytes(DATA)
    git(repository, "init", "--quiet")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "x")
    return [
        {"url": f"{site.address}/data.jsonl", "sha256": hashlib.sha256(DATA).hexdigest(), "dest": "data.jsonl"},
        {"git": repository.as_uri(), "revision": git(repository, "rev-parse", "HEAD"), "dest": "eval"},
    ]


def assert_all_have(fleet: SmallFleet) -> None:
    for node in fleet.names:
        work = fleet.root(node) / "work"
        assert (work / "data.jsonl").read_bytes() == DATA
        assert (work / "eval" / "deep" / "eval.jsonl").read_bytes() == DATA
        assert not list(work.rglob(".git"))


def test_the_first_node_fetches_and_the_others_get_it_from_there(tmp_path: Path, site: Site) -> None:
    fleet = SmallFleet(tmp_path, nodes=3, axolotl_training_files=sources(tmp_path, site))
    assert changed(fleet.provision("--check")) > 0
    assert site.requests == []
    fleet.provision()
    assert_all_have(fleet)
    assert site.requests == ["GET /data.jsonl"]
    shutil.rmtree(tmp_path / "data-repository")
    assert changed(fleet.provision()) == 0
    # What one node has lost comes from another.
    shutil.rmtree(fleet.root("node2") / "work" / "eval")
    fleet.provision()
    assert_all_have(fleet)
    assert site.requests == ["GET /data.jsonl"]


def test_the_controller_fetches_what_it_delivers(tmp_path: Path, site: Site) -> None:
    fleet = SmallFleet(tmp_path, nodes=2, axolotl_delivery="push", axolotl_training_files=sources(tmp_path, site))
    fleet.provision("--limit", "node0")
    assert site.requests == ["GET /data.jsonl"]
    assert not list((fleet.root("node0") / "work").glob(".*.source.json"))
    fleet.provision(offline=True)
    assert_all_have(fleet)
    assert changed(fleet.provision(offline=True)) == 0


def test_another_file_than_the_digest_says_stops_it(tmp_path: Path, site: Site) -> None:
    fleet = SmallFleet(tmp_path, axolotl_training_files=sources(tmp_path, site))
    site.files["data.jsonl"] = b"another"
    done = fleet.run("provision")
    assert done.returncode != 0
    (finding,) = fleet.artifact()["findings"]
    assert f"{site.address}/data.jsonl must have SHA-256" in finding["found"]
    for node in fleet.names:
        assert not list((fleet.root(node) / "work").glob("*.jsonl"))


def fetch_model(path: Path, model: Site, **arguments: Any) -> dict[str, Any]:
    source = {"kind": "hub", "location": "org/tiny", "version": REVISION}
    environment = {"HF_ENDPOINT": model.address}
    return run_module("training_source", {"path": str(path), "source": source, "environment": environment, **arguments})


def test_a_release_brings_the_hubs_library(provisioned: Path, tmp_path: Path) -> None:
    with hub(MODEL) as model:
        result = fetch_model(tmp_path / "model", model, release=str(provisioned / "node0" / "current"))
    assert result.get("changed") is True, result
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == MODEL["model.safetensors"]


def test_a_controller_gets_the_hubs_library_that_the_lock_names(tmp_path: Path) -> None:
    version = importlib.metadata.version("huggingface-hub")
    (tmp_path / "lock.txt").write_text(f"huggingface-hub=={version}\n")
    with hub(MODEL) as model:
        result = fetch_model(tmp_path / "model", model, lock=str(tmp_path / "lock.txt"))
    assert result.get("changed") is True, result
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == MODEL["model.safetensors"]
