# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the demo's git repository from Axolotl's source distribution.

The package index is reachable wherever the demo can install anything, a git server may not be. The same archive,
committed with a fixed author and date and untouched by anybody's git configuration, has the same commit SHA on every
machine, so the demo's inventory can pin it like any other inventory pins a commit of its own repository.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "0.19.0"
ARCHIVE_SHA256 = "136d623f04c909c5149d7f5dbd4a0e215014ab4c3617cce9d64010b5b8ca609d"
COMMIT = "cfe962a45cfe12064a375f9c784487998059c657"

IDENTITY = {"NAME": "gpufleet.axolotl demo", "EMAIL": "demo@gpufleet.invalid", "DATE": "2026-07-24T00:00:00+00:00"}


class DemoSourceError(Exception):
    """The repository can't be made; the message says why."""


def download(folder: Path) -> Path:
    """Fetch the source distribution with pip, which knows the site's mirrors and checks the hash itself."""
    requirement = folder / "requirement.txt"
    requirement.write_text(f"axolotl=={VERSION} --hash=sha256:{ARCHIVE_SHA256}\n")
    options = ["--quiet", "--no-deps", "--no-binary", "axolotl", "--require-hashes", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, "--requirement", str(requirement)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise DemoSourceError(f"pip can't download Axolotl {VERSION}'s source distribution:\n{done.stderr[-2000:]}")
    return folder / f"axolotl-{VERSION}.tar.gz"


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack regular files below the archive's top folder, each mode 644 or 755 whatever the umask is."""
    top = folder / "source"
    with tarfile.open(archive) as members:
        for member in members:
            parts = Path(member.name).parts[1:]
            content = members.extractfile(member) if member.isfile() else None
            if not parts or content is None:
                continue
            if ".." in parts or ".git" in parts:
                raise DemoSourceError(f"{archive} holds a file of a dangerous name: {member.name}")
            target = top.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.read())
            target.chmod(0o755 if member.mode & 0o100 else 0o644)
    return top


def git(repository: Path, *arguments: str, work_tree: Path | None = None) -> str:
    """Run git on a bare repository as if the user, the machine and the calling process had never configured it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_ATTR_NOSYSTEM": "1"}
    environment |= {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in IDENTITY.items()}
    settings = ["core.autocrlf=false", "core.fileMode=true", f"core.excludesFile={os.devnull}"]
    settings += [f"core.attributesFile={os.devnull}", "safe.directory=*", "gc.auto=0"]
    command = ["git", *(part for setting in settings for part in ("-c", setting)), f"--git-dir={repository}"]
    if work_tree is not None:
        command.append(f"--work-tree={work_tree}")
    done = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise DemoSourceError(f"git {arguments[0]} failed:\n{done.stderr[-2000:]}")
    return done.stdout.strip()


def commit(source: Path, repository: Path, message: str) -> str:
    """Commit a tree to branch main of a new bare repository, less what the tree's own .gitignore names."""
    git(repository, "init", "--quiet", "--bare", "--template=", "--object-format=sha1")
    git(repository, "symbolic-ref", "HEAD", "refs/heads/main")
    git(repository, "add", "--all", work_tree=source)
    sha = git(repository, "commit-tree", git(repository, "write-tree"), "-m", message)
    git(repository, "update-ref", "refs/heads/main", sha)
    return sha


def holds(repository: Path, sha: str) -> bool:
    try:
        return git(repository, "rev-parse", "--verify", "--quiet", "refs/heads/main") == sha
    except DemoSourceError:
        return False


def make(repository: Path, archive: Path | None) -> None:
    repository.parent.mkdir(parents=True, exist_ok=True)
    # Made beside its place and moved there, so that an interrupted run leaves nothing that looks complete.
    with tempfile.TemporaryDirectory(prefix=".axolotl-source-", dir=repository.parent) as name:
        folder = Path(name)
        archive = archive or download(folder)
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest != ARCHIVE_SHA256:
            raise DemoSourceError(f"{archive} has SHA-256 {digest}, expected {ARCHIVE_SHA256}")
        made = folder / "repository.git"
        sha = commit(unpack(archive, folder), made, f"Axolotl {VERSION}, its source distribution")
        if sha != COMMIT:
            raise DemoSourceError(f"the demo's commit is {sha}, expected {COMMIT}: the tree was not reproduced")
        if repository.exists():
            shutil.rmtree(repository)
        made.rename(repository)


def main() -> int:
    parser = argparse.ArgumentParser(description=f"Make a git repository of Axolotl {VERSION} for the demo.")
    parser.add_argument("repository", type=Path, help="folder of the bare repository")
    parser.add_argument("--archive", type=Path, help="the source distribution, when it is already here")
    options = parser.parse_args()
    repository = options.repository.absolute()
    try:
        if not holds(repository, COMMIT):
            make(repository, options.archive)
    except DemoSourceError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    print(f"Axolotl {VERSION}: {repository.as_uri()} at {COMMIT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
