# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs `ansible-test sanity` on the working tree, uncommitted files included, and keeps all it makes in .cache.

ansible-test accepts a collection only at a path .../ansible_collections/<namespace>/<name> that is no link, so the
tree is copied there. It builds its environments below HOME, drops PIP_* variables and downloads a pip: it gets a HOME
of its own, with pip's effective configuration as a file and the pip that Python brings along.
"""

from __future__ import annotations

import configparser
import filecmp
import os
import re
import runpy
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "sanity"
COPY = CACHE / "ansible_collections" / "gpufleet" / "axolotl"
HOME = CACHE / "home"
PASSED = CACHE / "passed"
READY = ROOT / ".venv" / ".ready"  # younger than PASSED when the tools have changed since

# ensurepip runs as a process of its own, since it switches pip's configuration off in the process that calls it.
GET_PIP = """\
import subprocess
import sys

packages = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
subprocess.check_call([sys.executable, "-m", "ensurepip"], stdout=subprocess.DEVNULL)
subprocess.check_call([sys.executable, "-m", "pip", "install", "-qq", *packages])
"""


def working_tree() -> set[Path]:
    """Give the files that git tracks or would track, relative to the root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    names = {Path(name) for name in listing.split("\0") if name}
    return {name for name in names if (ROOT / name).is_symlink() or (ROOT / name).is_file()}


def same(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    return other.is_file() and one.stat().st_mode == other.stat().st_mode and filecmp.cmp(one, other, shallow=False)


def copy_working_tree() -> bool:
    """Bring the copy up to date, and say whether it has changed."""
    COPY.mkdir(parents=True, exist_ok=True)
    if not (COPY / ".git").is_dir():
        subprocess.run(["git", "init", "--quiet", "."], cwd=COPY, check=True)
    wanted = working_tree()
    present = {
        path.relative_to(COPY)
        for path in COPY.rglob("*")
        if (path.is_file() or path.is_symlink()) and path.relative_to(COPY).parts[0] != ".git"
    }
    gone = {name for name in present - wanted if name.parts[:2] != ("tests", "output")}
    stale = {name for name in wanted if not same(ROOT / name, COPY / name)}
    for name in gone | stale:
        (COPY / name).unlink(missing_ok=True)
    for name in stale:
        (COPY / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, COPY / name, follow_symlinks=False)
    return bool(gone or stale)


def prepare_home() -> None:
    """Write what ansible-test looks for below HOME."""
    settings = HOME / ".config" / "pip" / "pip.conf"
    settings.parent.mkdir(parents=True, exist_ok=True)
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    core = runpy.run_path(str(ROOT / "plugins/module_utils/core/uv_environment.py"))
    parser = configparser.RawConfigParser()
    parser["global"] = {**core["parse_pip_config_list"](listing), "quiet": "2"}
    with settings.open("w", encoding="utf-8") as stream:
        parser.write(stream)

    spec = find_spec("ansible_test")
    if spec is None or spec.origin is None:
        sys.exit("ansible-test is missing from this Python: run `make setup`")
    source = (Path(spec.origin).parent / "_internal" / "python_requirements.py").read_text(encoding="utf-8")
    downloads = HOME / ".ansible" / "test" / "cache"
    downloads.mkdir(parents=True, exist_ok=True)
    for version in set(re.findall(r"pip='([0-9.]+)'", source)):
        (downloads / f"get_pip_{version.replace('.', '_')}.py").write_text(GET_PIP, encoding="utf-8")


def main() -> int:
    changed = copy_working_tree()
    if not changed and PASSED.exists() and READY.exists() and READY.stat().st_mtime < PASSED.stat().st_mtime:
        print("ansible-test sanity: passed before, and no file has changed since")
        return 0
    PASSED.unlink(missing_ok=True)
    prepare_home()
    ansible_test = Path(sys.executable).parent / "ansible-test"
    # This Python alone: a python3.9 on PATH may be a version manager's stub that doesn't run, which ends ansible-test.
    # ruff holds what travels to the nodes to the syntax of 3.9.
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    result = subprocess.run(
        [ansible_test, "sanity", "--color", "no", "--python", python],
        cwd=COPY,
        env={**os.environ, "HOME": str(HOME)},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode:
        print(result.stdout)
        return result.returncode
    PASSED.touch()
    tests = set(re.findall(r'Running sanity test "(.+?)"', result.stdout))
    print(f"ansible-test sanity: {len(tests)} tests passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
