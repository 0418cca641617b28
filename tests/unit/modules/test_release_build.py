# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release is built from its lock, sealed last, and brought back when it is no longer what its name says."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from unit.helpers import run_module
from unit.releases import git, prepare_release

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.release_name import release_id
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.folder_lock import only_one_in

Arguments = dict[str, Any]


@pytest.fixture
def arguments(tmp_path: Path) -> Arguments:
    return prepare_release(tmp_path)


def calls(arguments: Arguments) -> list[str]:
    """What uv was asked to do, without the questions of where its cache is."""
    log = Path(arguments["uv"]).with_name("uv.log")
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return [" ".join(line.split()[:2]) for line in lines if line != "cache dir"]


def site_packages(arguments: Arguments) -> Path:
    return next(Path(arguments["path"]).glob("venv/lib/*/site-packages"))


def build(arguments: Arguments, **special: Any) -> dict[str, Any]:
    return run_module("release_build", arguments, **special)


def test_a_release_is_built_and_sealed(arguments: Arguments) -> None:
    result = build(arguments)
    assert result["changed"], result
    assert result["release"]["complete"]
    assert result["release"]["packages"]["count"] == 2
    seal = json.loads(Path(arguments["path"], "release.json").read_text())
    assert seal["release_id"] == Path(arguments["path"]).name
    assert seal["train_options"] == ["--learning-rate", "--no-x"]
    assert seal["inputs"]["commit"] == arguments["commit"]
    assert calls(arguments) == ["venv --quiet", "pip sync", "pip install"]


def test_a_delivered_release_is_built_from_the_delivery_alone(
    arguments: Arguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.invalid/simple")
    delivery = Path(arguments["path"], "delivery")
    (delivery / "wheels").mkdir(parents=True)
    (delivery / "requirements.txt").write_text("alpha==1.0 --hash=sha256:aa\nbeta-tools==2.0+cpu --hash=sha256:bb\n")
    result = build({**arguments, "delivery": str(delivery), "torch_backend": ""})
    assert result["release"]["complete"], result
    uv = Path(arguments["uv"])
    (sync,) = [line for line in uv.with_name("uv.log").read_text().splitlines() if line.startswith("pip sync")]
    assert f"--require-hashes --no-index --find-links {delivery}/wheels" in sync
    assert sync.endswith(f"{delivery}/requirements.txt")
    settings = dict(line.split("=", 1) for line in uv.with_name("environment").read_text().splitlines() if "=" in line)
    assert (settings["UV_OFFLINE"], settings["UV_PYTHON_DOWNLOADS"]) == ("1", "never")
    assert "UV_DEFAULT_INDEX" not in settings


def test_the_second_build_changes_nothing(arguments: Arguments) -> None:
    build(arguments)
    calls(arguments)
    assert build(arguments)["changed"] is False
    assert calls(arguments) == []


def test_a_check_tells_what_a_build_would_do_and_does_nothing(arguments: Arguments) -> None:
    result = build(arguments, check=True)
    assert result["changed"]
    assert "never completed" in result["diff"]["before"]
    assert not Path(arguments["path"], "venv").exists()
    build(arguments)
    assert build(arguments, check=True)["changed"] is False


def test_what_was_cut_off_is_built_anew(arguments: Arguments) -> None:
    """A package that was half installed has metadata and so looks installed: only a new environment is certain."""
    build(arguments)
    Path(arguments["path"], "release.json").unlink()
    (site_packages(arguments) / "left_over.py").touch()
    calls(arguments)
    result = build(arguments)
    assert result["release"]["complete"]
    assert result["repaired"] == []
    assert not (site_packages(arguments) / "left_over.py").exists()
    assert calls(arguments) == ["venv --quiet", "pip sync", "pip install"]


@pytest.mark.parametrize("content", ["x = 'edited'\n", "x = 2\n"])
def test_an_edited_package_is_restored_and_leaves_the_cache(arguments: Arguments, content: str) -> None:
    build(arguments)
    (site_packages(arguments) / "alpha" / "__init__.py").write_text(content)
    calls(arguments)
    result = build(arguments)
    assert result["changed"]
    assert "alpha: alpha/__init__.py" in result["repaired"][0]
    assert (site_packages(arguments) / "alpha" / "__init__.py").read_text() == "x = 1\n"
    assert "cache clean --quiet alpha\n" in Path(arguments["uv"]).with_name("uv.log").read_text()
    assert calls(arguments) == ["venv --quiet", "cache clean", "pip sync", "pip install"]


def test_a_seal_that_is_wrong_alone_needs_no_new_environment(arguments: Arguments) -> None:
    build(arguments)
    seal = Path(arguments["path"], "release.json")
    seal.write_text(json.dumps({**json.loads(seal.read_text()), "release_id": "another"}))
    calls(arguments)
    assert build(arguments)["release"]["complete"]
    assert calls(arguments) == ["pip install"]


def test_a_failed_step_leaves_no_seal_and_says_why(arguments: Arguments) -> None:
    build(arguments)
    (site_packages(arguments) / "alpha" / "__init__.py").unlink()
    Path(arguments["uv"]).with_name("fail").write_text("pip sync")
    result = build(arguments)
    assert result["failed"]
    assert "uv pip sync failed" in result["msg"]
    assert "no solution found" in result["msg"]
    assert not Path(arguments["path"], "release.json").exists()


def test_a_full_disk_keeps_nothing_half_installed(arguments: Arguments) -> None:
    Path(arguments["uv"]).with_name("fail").write_text(
        "pip sync\nfailed to write: No space left on device (os error 28)"
    )
    result = build(arguments)
    assert "No space left on device" in result["msg"]
    assert "axolotl_uv_cache_dir" in result["msg"]
    assert not Path(arguments["path"], "venv").exists()


def test_a_release_that_can_not_be_imported_is_not_sealed(arguments: Arguments) -> None:
    source = Path(arguments["repository"])
    (source / "axolotl" / "cli" / "main.py").write_text("raise SystemExit('no torch here')\n")
    git(source, "commit", "--quiet", "--all", "--message", "broken")
    broken = rename_for(arguments, commit=git(source, "rev-parse", "HEAD"))
    result = build(broken)
    assert "can't import Axolotl: no torch here" in result["msg"]
    assert not Path(broken["path"], "release.json").exists()


def rename_for(arguments: Arguments, **changes: str) -> Arguments:
    changed = {**arguments, **changes}
    inputs = {name: value for name, value in changed.items() if name not in ("path", "uv", "repository")}
    changed["path"] = str(Path(arguments["path"]).rename(Path(arguments["path"]).with_name(release_id(**inputs))))
    return changed


def test_the_source_is_the_one_commit_without_its_history(arguments: Arguments) -> None:
    repository, source = Path(arguments["repository"]), Path(arguments["path"], "source")
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "later")
    build(arguments)
    assert git(source, "rev-parse", "HEAD") == arguments["commit"]
    assert git(source, "rev-list", "--all", "HEAD", "--count") == "1"
    assert sorted(path.name for path in Path(arguments["path"]).iterdir()) == [
        *("lock.txt", "release.json", "source", "venv")
    ]


def test_an_edited_source_is_restored_and_the_environment_left(arguments: Arguments) -> None:
    build(arguments)
    calls(arguments)
    source = Path(arguments["path"], "source")
    (source / "axolotl" / "__init__.py").write_text("edited = True\n")
    (source / "new_module.py").touch()
    result = build(arguments)
    assert result["release"]["complete"], result
    assert "2 file(s) differ" in result["repaired"][0]
    assert not (source / "new_module.py").exists()
    assert calls(arguments) == ["pip install"]


@pytest.mark.parametrize("leftover", ["source.new/.git/index.lock", "source/.git/HEAD.lock", "source/half"])
def test_a_checkout_that_was_cut_off_is_no_obstacle(arguments: Arguments, leftover: str) -> None:
    path = Path(arguments["path"], leftover)
    path.parent.mkdir(parents=True)
    path.touch()
    assert build(arguments)["release"]["complete"]


def test_a_commit_that_the_repository_lacks_is_named_with_the_remedy(arguments: Arguments) -> None:
    missing = rename_for(arguments, commit="0123456789" * 4)
    result = build(missing)
    for words in (arguments["repository"], "axolotl_repository", "axolotl_commit"):
        assert words in result["msg"]
    assert not Path(missing["path"], "source").exists()


def test_two_builds_at_once_wait_for_each_other(arguments: Arguments) -> None:
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _number: build(arguments), range(2)))
    assert sorted(result["changed"] for result in results) == [False, True], results
    assert all(result["release"]["complete"] for result in results)
    assert calls(arguments) == ["venv --quiet", "pip sync", "pip install"]


def test_a_build_does_not_wait_for_ever(arguments: Arguments) -> None:
    with only_one_in(arguments["path"]):
        result = build({**arguments, "timeout": 1})
    assert "another process is still at work" in result["msg"]
    assert f"pid {os.getpid()}," in result["msg"]


def test_another_lock_is_refused(arguments: Arguments) -> None:
    Path(arguments["path"], "lock.txt").write_text("alpha==1.1\n")
    result = build(arguments)
    assert "lock.txt must have SHA-256" in result["msg"]
    assert calls(arguments) == []


def test_a_folder_of_another_name_is_refused(arguments: Arguments) -> None:
    result = build({**arguments, "torch_backend": "cpu"})
    assert "these inputs make the release" in result["msg"]
    assert calls(arguments) == []
