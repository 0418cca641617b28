# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release is described as it is: complete only when nothing differs from its seal, its lock and its commit."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit.helpers import run_module
from unit.releases import git, make_source, prepare_release

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.release_directory import read_release


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arguments = prepare_release(tmp_path_factory.mktemp("node"))
    result = run_module("release_build", arguments)
    assert result.get("changed"), result
    return Path(arguments["path"])


@pytest.fixture
def release(built: Path) -> Any:
    """The built release, put back to what it was after the test."""
    saved = built.with_name("saved")
    shutil.copytree(built, saved, symlinks=True)
    yield built
    shutil.rmtree(built)
    saved.rename(built)


def site(release: Path) -> Path:
    return next(release.glob("venv/lib/*/site-packages"))


def test_a_release_as_it_was_built_is_complete(release: Path) -> None:
    found = read_release(str(release))
    assert found["problems"] == []
    assert found["complete"]
    assert found["commit"] == git(release / "source", "rev-parse", "HEAD")
    nothing: dict[str, dict[str, str]] = {name: {} for name in ("missing", "extra", "different", "damaged", "edited")}
    assert found["packages"] == {"count": 2, **nothing}
    assert found["submodules"] == []
    assert found["train_options"] == ["--learning-rate", "--no-x"]
    assert found["project_version"] == "0.0.1"
    json.dumps(found)


def test_it_is_found_through_the_link_current(release: Path) -> None:
    current = release.with_name("current")
    current.symlink_to(release.name)
    try:
        assert read_release(str(current))["complete"]
    finally:
        current.unlink()


def edit_source(release: Path) -> None:
    (release / "source" / "axolotl" / "__init__.py").write_text("edited = True\n")


def add_source(release: Path) -> None:
    (release / "source" / "axolotl" / "caf\u00e9 1.py").touch()


def move_commit(release: Path) -> None:
    git(release / "source", "commit", "--quiet", "--allow-empty", "--message", "y")


def remove_checkout(release: Path) -> None:
    shutil.rmtree(release / "source" / ".git")


def break_checkout(release: Path) -> None:
    (release / "source" / ".git" / "HEAD").write_text("torn")


def edit_lock(release: Path) -> None:
    (release / "lock.txt").write_text("alpha==1.1\nbeta-tools==2.0+cpu\n")


def remove_lock(release: Path) -> None:
    (release / "lock.txt").unlink()


def remove_package(release: Path) -> None:
    shutil.rmtree(site(release) / "alpha-1.0.dist-info")


def add_package(release: Path) -> None:
    shutil.copytree(site(release) / "alpha-1.0.dist-info", site(release) / "gamma-3.0.dist-info")


def change_package(release: Path) -> None:
    (site(release) / "alpha-1.0.dist-info").rename(site(release) / "alpha-1.2.dist-info")


def edit_package(release: Path) -> None:
    (site(release) / "beta_tools" / "__init__.py").write_text("x = 'edited'\n")


def edit_package_in_its_size(release: Path) -> None:
    (site(release) / "beta_tools" / "__init__.py").write_text("x = 2\n")


def uninstall_source(release: Path) -> None:
    shutil.rmtree(site(release) / "axolotl-0.0.1.dist-info")


def break_interpreter(release: Path) -> None:
    (release / "venv" / "bin" / "python").unlink()
    (release / "venv" / "bin" / "python").symlink_to("/nonexistent/python")


def remove_environment(release: Path) -> None:
    shutil.rmtree(release / "venv")


def change_interpreter(release: Path) -> None:
    seal = json.loads((release / "release.json").read_text())
    (release / "release.json").write_text(json.dumps({**seal, "python_version": "3.0.1"}))


def remove_seal(release: Path) -> None:
    (release / "release.json").unlink()


def tear_seal(release: Path) -> None:
    (release / "release.json").write_text('{"release_id": ')


def forge_seal(release: Path) -> None:
    (release / "release.json").write_text('{"release_id": "x", "inputs": {"commit": 1}}')


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (edit_source, "source/ was edited: 1 file(s) differ from the commit: axolotl/__init__.py"),
        (add_source, "1 file(s) differ from the commit: axolotl/caf\u00e9 1.py"),
        (move_commit, "when the release was completed"),
        (remove_checkout, "source/ holds no git checkout"),
        (break_checkout, "git can't say of source/ which commit"),
        (edit_lock, "alpha is 1.0, locked is 1.1"),
        (remove_lock, "lock.txt can't be read"),
        (remove_package, "alpha 1.0 is missing"),
        (add_package, "gamma 3.0 is not in the lock"),
        (change_package, "alpha is 1.2, locked is 1.0"),
        (edit_package, "installed files are missing or have another size: beta-tools: beta_tools/__init__.py"),
        (edit_package_in_its_size, "installed files were edited: beta-tools: beta_tools/__init__.py"),
        (uninstall_source, "source/ is not installed"),
        (break_interpreter, "the interpreter of venv/ does not start"),
        (remove_environment, "the interpreter of venv/ does not start"),
        (change_interpreter, "it was 3.0.1 when the release was completed"),
        (remove_seal, "release.json is missing"),
        (tear_seal, "release.json is missing or unreadable"),
        (forge_seal, "release.json has no valid inputs"),
    ],
)
def test_every_damage_is_named(release: Path, damage: Callable[[Path], None], problem: str) -> None:
    damage(release)
    found = read_release(str(release))
    assert not found["complete"]
    assert problem in "\n".join(found["problems"])
    json.dumps(found)


def keep_times(path: Path) -> None:
    """Edit a file as `cp -p` and archives do, which bring the times along."""
    status = path.stat()
    path.write_text("x = 2\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def link_elsewhere(path: Path) -> None:
    os.link(path, path.with_name("linked"))


def touch(path: Path) -> None:
    os.utime(path)


@pytest.mark.parametrize(("change", "edited"), [(keep_times, True), (link_elsewhere, False), (touch, False)])
def test_contents_count_and_not_their_times(release: Path, change: Callable[[Path], None], edited: bool) -> None:
    path = site(release) / "alpha" / "__init__.py"
    trust(release)
    change(path)
    assert path.stat().st_ctime_ns >= (release / "release.json").stat().st_mtime_ns
    expected = {"alpha": "alpha/__init__.py"} if edited else {}
    found = read_release(str(release))
    assert (found["packages"]["edited"], found["complete"]) == (expected, not edited)


def test_what_was_not_touched_since_is_trusted(release: Path) -> None:
    edit_package_in_its_size(release)
    trust(release)
    assert read_release(str(release))["packages"]["edited"] == {}


def trust(release: Path) -> None:
    """Complete the release now, after a moment in which the clock of the file system goes on."""
    seal = release / "release.json"
    newest = max(path.lstat().st_ctime_ns for path in site(release).rglob("*"))
    while seal.stat().st_mtime_ns <= newest:
        seal.write_text(seal.read_text())


def test_one_digest_tells_whether_two_nodes_have_the_same_files(release: Path) -> None:
    before = read_release(str(release))["packages_sha256"]
    info = site(release) / "alpha-1.0.dist-info"
    record = (info / "RECORD").read_text()
    # Scripts and the installer's own files differ from node to node.
    (info / "RECORD").write_text(f"{record}../../../bin/alpha,sha256=xx,1\n{info.name}/INSTALLER,sha256=yy,2\n")
    assert read_release(str(release))["packages_sha256"] == before
    (info / "RECORD").write_text("".join(reversed(record.splitlines(keepends=True))))
    assert read_release(str(release))["packages_sha256"] == before
    (info / "RECORD").write_text(record.replace("sha256=", "sha256=x"))
    changed = read_release(str(release))["packages_sha256"]
    (info / "RECORD").write_text(record)
    info.rename(info.with_name("alpha-1.1.dist-info"))
    assert len({before, changed, read_release(str(release))["packages_sha256"]}) == 3


def test_submodules_are_told_with_what_became_of_them(release: Path, tmp_path: Path) -> None:
    for name in ("current", "moved", "absent"):
        make_source(tmp_path / name)
        allow = ("-c", "protocol.file.allow=always")
        git(release / "source", *allow, "submodule", "add", "--quiet", str(tmp_path / name), f"parts/{name} x")
    git(release / "source", "commit", "--quiet", "--message", "parts")
    git(release / "source" / "parts" / "moved x", "commit", "--quiet", "--allow-empty", "--message", "moved")
    git(release / "source", "submodule", "deinit", "--quiet", "--force", "parts/absent x")
    commits = {
        "absent": git(tmp_path / "absent", "rev-parse", "HEAD"),
        "current": git(tmp_path / "current", "rev-parse", "HEAD"),
        "moved": git(release / "source" / "parts" / "moved x", "rev-parse", "HEAD"),
    }
    states = {"absent": "absent", "current": "current", "moved": "other_commit"}
    assert read_release(str(release))["submodules"] == [
        {"path": f"parts/{name} x", "commit": commits[name], "state": states[name]} for name in commits
    ]


def test_a_renamed_release_is_not_what_its_name_says(release: Path) -> None:
    renamed = release.rename(release.with_name("000000000000-000000000000"))
    try:
        assert "the folder is named 000000000000-000000000000" in "\n".join(read_release(str(renamed))["problems"])
    finally:
        renamed.rename(release)


def test_a_missing_release_has_the_same_keys(release: Path) -> None:
    absent = read_release(str(release.with_name("absent")))
    assert absent["problems"] == [f"{release.with_name('absent')}: there is no such folder"]
    assert absent.keys() == read_release(str(release)).keys()


def test_what_an_import_leaves_behind_is_no_edit(release: Path) -> None:
    for left in ("axolotl/__pycache__/x.pyc", "src/axolotl.egg-info/PKG-INFO"):
        (release / "source" / left).parent.mkdir(parents=True, exist_ok=True)
        (release / "source" / left).touch()
    assert read_release(str(release))["dirty"] == []


def test_many_edits_are_counted_and_some_are_listed(release: Path) -> None:
    for number in range(50):
        (release / "source" / f"new{number}").touch()
    found = read_release(str(release))
    assert (found["dirty_count"], len(found["dirty"]), found["untracked"]) == (50, 20, True)


def test_reading_writes_nothing(release: Path) -> None:
    index = release / "source" / ".git" / "index"
    # A file that was touched would make git refresh its index.
    os.utime(release / "source" / "pyproject.toml")
    before = index.stat().st_mtime_ns
    read_release(str(release))
    assert index.stat().st_mtime_ns == before
