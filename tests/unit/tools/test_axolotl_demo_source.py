# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's repository has one SHA everywhere, whatever git is told by the user, the machine or the caller."""

from __future__ import annotations

import importlib.util
import io
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("axolotl_demo_source", ROOT / "tools" / "axolotl_demo_source.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    files = {
        ".gitattributes": (0o644, b"*.py filter=mangle\n"),
        ".gitignore": (0o600, b"*.egg-info/\n"),
        "script.sh": (0o700, b"echo\r\n"),
        "src/a.py": (0o666, b"x = 1\r\n"),
        "src/a.egg-info/PKG-INFO": (0o644, b"built\n"),
    }
    path = tmp_path / "axolotl.tar.gz"
    with tarfile.open(path, "w:gz") as members:
        for name, (mode, content) in files.items():
            member = tarfile.TarInfo(f"axolotl-0/{name}")
            member.size, member.mode = len(content), mode
            members.addfile(member, io.BytesIO(content))
    return path


def commit(tool: ModuleType, archive: Path, folder: Path) -> str:
    folder.mkdir()
    return str(tool.commit(tool.unpack(archive, folder), folder / "repository.git", "x"))


def test_git_settings_change_nothing(
    tool: ModuleType, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = commit(tool, archive, tmp_path / "plain")
    home = tmp_path / "home"
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".config" / "git" / "ignore").write_text("*.sh\n")
    (home / ".config" / "git" / "attributes").write_text("* text eol=lf\n")
    (home / ".gitconfig").write_text(
        "[core]\nautocrlf = true\nfileMode = false\n[commit]\ngpgsign = true\n[init]\ndefaultObjectFormat = sha256\n"
        '[filter "mangle"]\nclean = tr a-z A-Z\n'
    )
    for name, value in {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "GIT_DIR": "/nonexistent",
        "GIT_INDEX_FILE": "/nonexistent/index",
        "GIT_AUTHOR_NAME": "somebody",
        "TZ": "Asia/Tokyo",
    }.items():
        monkeypatch.setenv(name, value)
    assert commit(tool, archive, tmp_path / "odd") == plain


def test_what_the_tree_ignores_is_not_tracked(tool: ModuleType, archive: Path, tmp_path: Path) -> None:
    commit(tool, archive, tmp_path / "made")
    listed = tool.git(tmp_path / "made" / "repository.git", "ls-tree", "-r", "main").splitlines()
    assert [(line.split()[0], line.split("\t")[1]) for line in listed] == [
        ("100644", ".gitattributes"),
        ("100644", ".gitignore"),
        ("100755", "script.sh"),
        ("100644", "src/a.py"),
    ]


def test_another_archive_is_refused(tool: ModuleType, archive: Path, tmp_path: Path) -> None:
    with pytest.raises(tool.DemoSourceError, match=f"expected {tool.ARCHIVE_SHA256}"):
        tool.make(tmp_path / "out" / "axolotl.git", archive)
    assert list((tmp_path / "out").iterdir()) == []


def test_another_commit_is_refused(
    tool: ModuleType, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "ARCHIVE_SHA256", tool.hashlib.sha256(archive.read_bytes()).hexdigest())
    with pytest.raises(tool.DemoSourceError, match=f"expected {tool.COMMIT}"):
        tool.make(tmp_path / "out" / "axolotl.git", archive)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_repository_that_is_there_is_kept(
    tool: ModuleType, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = commit(tool, archive, tmp_path / "made")
    assert tool.holds(tmp_path / "made" / "repository.git", sha)
    assert not tool.holds(tmp_path / "made" / "repository.git", tool.COMMIT)
    assert not tool.holds(tmp_path / "absent", sha)
