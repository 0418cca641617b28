# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Training files come from a URL, from git and from the Hub in the version that is asked for, or not at all."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.published import REVISION, Site, hub, web_site
from unit.helpers import run_module
from unit.releases import git

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MODEL = {"config.json": b"{}", "model.safetensors": CONTENT, "original/old.bin": b"old"}


@pytest.fixture
def site() -> Iterator[Site]:
    with web_site({"data.jsonl": CONTENT}) as site:
        yield site


@pytest.fixture
def model() -> Iterator[Site]:
    with hub(MODEL) as site:
        yield site


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.jsonl").write_text("one")
    git(folder, "init", "--quiet")
    commit(folder)
    return folder


def commit(folder: Path) -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "x")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release whose Python is the one that runs the tests, which has the Hub's library."""
    python = tmp_path / "release" / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return tmp_path / "release"


def bring(
    path: Path,
    kind: str,
    location: str,
    version: str,
    *,
    include: Sequence[str] = (),
    check: bool = False,
    **arguments: Any,
) -> dict[str, Any]:
    source = {"kind": kind, "location": location, "version": version, "include": list(include)}
    return run_module("training_source", {"path": str(path), "source": source, **arguments}, check=check)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# A file from a URL


def test_a_file_comes_once(tmp_path: Path, site: Site) -> None:
    path, url = tmp_path / "work" / "data.jsonl", f"{site.address}/data.jsonl"
    result = bring(path, "url", url, SHA256)
    assert result["changed"] is True
    assert result["digest"] == SHA256
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == [".data.jsonl.source.json", "data.jsonl"]
    site.requests.clear()
    assert bring(path, "url", url, SHA256)["changed"] is False
    assert site.requests == []


def test_a_file_that_is_there_already_is_taken_for_it(tmp_path: Path, site: Site) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(CONTENT)
    assert bring(path, "url", f"{site.address}/data.jsonl", SHA256)["changed"] is False
    assert site.requests == []


def test_what_broke_off_is_gone_on_with(tmp_path: Path, site: Site) -> None:
    path, url = tmp_path / "data.jsonl", f"{site.address}/data.jsonl"
    site.breaks_off_after = 1000
    assert "data.jsonl" in bring(path, "url", url, SHA256)["msg"]
    assert not path.exists()
    site.breaks_off_after = None
    assert bring(path, "url", url, SHA256)["changed"] is True
    assert path.read_bytes() == CONTENT
    assert site.requests[-1].endswith("bytes=1000-")


def test_another_file_is_refused_and_not_kept(tmp_path: Path, site: Site) -> None:
    path = tmp_path / "data.jsonl"
    result = bring(path, "url", f"{site.address}/data.jsonl", "0" * 64)
    assert result["failed"] is True
    assert SHA256 in result["msg"]
    assert "0" * 64 in result["msg"]
    assert list(tmp_path.iterdir()) == []


def test_a_url_that_has_nothing_is_named(tmp_path: Path, site: Site) -> None:
    message = bring(tmp_path / "x", "url", f"{site.address}/nothing", SHA256)["msg"]
    assert f"{site.address}/nothing" in message
    assert "404" in message


def test_what_is_in_the_way_is_named_and_left(tmp_path: Path, site: Site) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("mine")
    result = bring(path, "url", f"{site.address}/data.jsonl", SHA256)
    assert "is in the way" in result["msg"]
    assert path.read_text() == "mine"
    assert names(tmp_path) == ["data.jsonl"]


def test_what_was_fetched_and_edited_is_brought_back(tmp_path: Path, site: Site) -> None:
    path, url = tmp_path / "data.jsonl", f"{site.address}/data.jsonl"
    bring(path, "url", url, SHA256)
    path.write_text("edited")
    assert bring(path, "url", url, SHA256)["changed"] is True
    assert path.read_bytes() == CONTENT


def test_a_check_fetches_nothing(tmp_path: Path, site: Site) -> None:
    result = bring(tmp_path / "x", "url", f"{site.address}/data.jsonl", SHA256, check=True)
    assert result["changed"] is True
    assert SHA256 in result["diff"]["after"]
    assert site.requests == []
    assert list(tmp_path.iterdir()) == []


def test_a_file_larger_than_the_disk_is_refused(tmp_path: Path, site: Site) -> None:
    class Endless(bytes):
        def __len__(self) -> int:
            return 1 << 60

    site.files["large"] = Endless(b"x")
    assert "the disk is too small" in bring(tmp_path / "x", "url", f"{site.address}/large", SHA256)["msg"]
    assert not (tmp_path / "x").exists()


# The files of a commit


def test_a_commit_comes_without_its_repository(tmp_path: Path, repository: Path) -> None:
    path, first = tmp_path / "data", git(repository, "rev-parse", "HEAD")
    assert bring(path, "git", repository.as_uri(), first)["changed"] is True
    assert names(path) == ["deep/a.jsonl"]
    repository.rename(tmp_path / "away")
    assert bring(path, "git", repository.as_uri(), first)["changed"] is False


def test_another_commit_replaces_it_whole(tmp_path: Path, repository: Path) -> None:
    path, first = tmp_path / "data", git(repository, "rev-parse", "HEAD")
    bring(path, "git", repository.as_uri(), first)
    (repository / "deep" / "a.jsonl").rename(repository / "b.jsonl")
    assert bring(path, "git", repository.as_uri(), commit(repository))["changed"] is True
    assert names(path) == ["b.jsonl"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".data.source.json", "data", "repository"]


def test_a_commit_that_is_not_there_leaves_everything(tmp_path: Path, repository: Path) -> None:
    path, first = tmp_path / "data", git(repository, "rev-parse", "HEAD")
    bring(path, "git", repository.as_uri(), first)
    result = bring(path, "git", repository.as_uri(), "0" * 40)
    assert repository.as_uri() in result["msg"]
    assert names(path) == ["deep/a.jsonl"]
    assert bring(path, "git", repository.as_uri(), first)["changed"] is False


def test_a_pointer_is_no_file(tmp_path: Path, repository: Path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{SHA256}\nsize {len(CONTENT)}\n"
    (repository / "weights.bin").write_text(pointer)
    message = bring(tmp_path / "data", "git", repository.as_uri(), commit(repository))["msg"]
    assert "1 file(s) in Git LFS (weights.bin)" in message


# A repository on the Hub


def test_a_model_comes_verified(tmp_path: Path, model: Site, release: Path) -> None:
    arguments = {"release": str(release), "environment": {"HF_ENDPOINT": model.address, "HF_HUB_OFFLINE": "1"}}
    path = tmp_path / "model"
    assert bring(path, "hub", "org/tiny", REVISION, **arguments)["changed"] is True
    assert names(path) == sorted(MODEL)
    assert (path / "model.safetensors").read_bytes() == CONTENT
    model.requests.clear()
    assert bring(path, "hub", "org/tiny", REVISION, **arguments)["changed"] is False
    assert model.requests == []


def test_only_what_is_included_comes_of_a_dataset(tmp_path: Path, model: Site, release: Path) -> None:
    arguments = {"release": str(release), "environment": {"HF_ENDPOINT": model.address}}
    path = tmp_path / "data"
    bring(path, "hub", "datasets/org/tiny", REVISION, include=["*.json", "*.safetensors"], **arguments)
    assert names(path) == ["config.json", "model.safetensors"]
    message = bring(tmp_path / "other", "hub", "org/tiny", REVISION, include=["*.gguf"], **arguments)["msg"]
    assert "no file that include names: *.gguf" in message


def test_a_token_is_used_and_not_shown(tmp_path: Path, model: Site, release: Path) -> None:
    model.token = "hf_not_shown_to_anybody_1234"
    arguments = {"release": str(release), "environment": {"HF_ENDPOINT": model.address}}
    refused = bring(tmp_path / "model", "hub", "org/tiny", REVISION, **arguments)
    assert "org/tiny" in refused["msg"]
    result = bring(tmp_path / "model", "hub", "org/tiny", REVISION, secrets={"HF_TOKEN": model.token}, **arguments)
    assert result["changed"] is True
    assert model.token not in str(result)


def test_a_file_that_is_not_what_the_hub_says_is_refused(tmp_path: Path, model: Site, release: Path) -> None:
    arguments = {"release": str(release), "environment": {"HF_ENDPOINT": model.address}}

    class Damaged(dict[str, bytes]):
        """Says one thing in its list and gives another of the same size."""

        def __getitem__(self, name: str) -> bytes:
            content = super().__getitem__(name)
            return content[::-1] if name == "model.safetensors" else content

    model.files = Damaged(MODEL)
    result = bring(tmp_path / "model", "hub", "org/tiny", REVISION, **arguments)
    assert "1 file(s) are not what the Hub says: model.safetensors" in result["msg"]
    assert not (tmp_path / "model").exists()
