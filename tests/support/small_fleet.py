# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes on this machine whose release takes a second to build: the real git, pip and uv, and packages of one module.

The repository is that of an "Axolotl" that can be imported and installed, the package index a folder of wheels.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from unit.releases import PYTHON, git
from unit.wheels import make_wheel

from support.fleet import PROJECT
from support.release_state import contents

UV = Path(sys.executable).with_name("uv")
OFFLINE = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
"""Runs a command where there is no network but the loopback."""

_PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "axolotl"
version = "0.0.1"
dependencies = ["alpha==1.0", "beta==2.0"]
"""
_BACKEND = """
import os, zipfile

def build_editable(directory, settings=None, metadata=None):
    info = "axolotl-0.0.1.dist-info"
    members = {
        "axolotl.pth": os.getcwd(),
        info + "/METADATA": "Metadata-Version: 2.1\\nName: axolotl\\nVersion: 0.0.1\\n",
        info + "/WHEEL": "Wheel-Version: 1.0\\nGenerator: tests\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    record = "".join(path + ",,\\n" for path in members) + info + "/RECORD,,\\n"
    with zipfile.ZipFile(directory + "/axolotl-0.0.1-py3-none-any.whl", "w") as wheel:
        for path, text in {**members, info + "/RECORD": record}.items():
            wheel.writestr(path, text)
    return "axolotl-0.0.1-py3-none-any.whl"

build_wheel = build_editable
"""
_SCHEMA = {
    "axolotl/utils/schemas/config.py": "import pydantic\n\nclass AxolotlConfigWCapabilities(pydantic.BaseModel): ...\n",
    "pydantic.py": """
class ValidationError(Exception): ...

class BaseModel:
    model_fields = {}

    def __init__(self, **values): ...
""",
    "yaml.py": "def safe_load(stream):\n    return {}\n",
    "torch-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: torch\nVersion: 1.0\n",
}
"""A schema that takes everything, and what preflight needs to ask it."""


class SmallFleet:
    """An inventory with its repository and package index, and the folder in which verbs are run."""

    def __init__(self, folder: Path, nodes: int = 2, **settings: Any) -> None:
        self.folder = folder
        self.links = folder / "links"
        self.project = folder / "project"
        self.project.mkdir(parents=True)
        self.names = [f"node{number}" for number in range(nodes)]
        uv_version = subprocess.run([UV, "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
        make_wheel(self.links, "uv", uv_version)
        # Large enough that moving it takes a moment.
        make_wheel(self.links, "alpha", "1.0", package=f"x = '{os.urandom(1 << 20).hex()}'\n")
        make_wheel(self.links, "beta", "2.0")
        self.settings = {
            "axolotl_repository": (folder / "repository").as_uri(),
            "axolotl_commit": self._make_repository(folder / "repository"),
            "axolotl_python_version": PYTHON,
            "axolotl_uv_version": uv_version,
            "axolotl_lock_dir": str(folder / "locks"),
            "axolotl_uv_cache_dir": str(folder / "cache"),
            "axolotl_config": str(folder / "config.yml"),
            "axolotl_nproc_per_node": 1,
            "axolotl_accelerator": "cpu",
            "axolotl_machine": "this-machine",
            "axolotl_address": "127.0.0.1",
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            **settings,
        }
        (folder / "config.yml").write_text("output_dir: ./out\n")
        self.write_inventory()

    @staticmethod
    def _make_repository(folder: Path) -> str:
        package = folder / "axolotl" / "cli"
        package.mkdir(parents=True)
        for path in (package.parent, package):
            (path / "__init__.py").touch()
        (package / "main.py").write_text("import alpha, beta\nclass train:\n    params = []\n")
        for name, content in _SCHEMA.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        (folder / "pyproject.toml").write_text(_PYPROJECT)
        (folder / "backend.py").write_text(_BACKEND)
        git(folder, "init", "--quiet")
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message", "x")
        return git(folder, "rev-parse", "HEAD")

    def root(self, node: str) -> Path:
        shared = self.settings.get("axolotl_storage") == "shared"
        return self.folder / "nodes" / ("all" if shared else node)

    def write_inventory(self, **hosts: Mapping[str, Any]) -> None:
        """Write the inventory; `hosts` holds what is a node's own."""
        nodes = {name: {"axolotl_root": str(self.root(name)), **hosts.get(name, {})} for name in self.names}
        document = {"axolotl_nodes": {"hosts": nodes, "vars": self.settings}}
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(document))

    def command(self, verb: str, *options: str) -> list[str]:
        playbook = str(Path(sys.executable).with_name("ansible-playbook"))
        return [playbook, "-i", str(self.folder / "hosts.yml"), f"gpufleet.axolotl.{verb}", *options]

    def environment(self) -> dict[str, str]:
        pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.links)}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
        path = f"{UV.parent}:{os.environ['PATH']}"
        return {**kept, **pip, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "PATH": path}

    def run(self, verb: str, *options: str, offline: bool = False) -> subprocess.CompletedProcess[str]:
        command = [*(OFFLINE if offline else []), *self.command(verb, *options)]
        return subprocess.run(
            command, check=False, cwd=self.project, env=self.environment(), capture_output=True, text=True
        )

    def provision(self, *options: str, offline: bool = False) -> str:
        """Provision, which must succeed; give what was said."""
        done = self.run("provision", *options, offline=offline)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        return done.stdout

    def artifact(self, verb: str = "provision") -> dict[str, Any]:
        return dict(json.loads((self.project / "artifacts" / f"{verb}.json").read_text()))

    def remove_nodes(self, names: Iterable[str] = ()) -> None:
        for name in names or self.names:
            shutil.rmtree(self.root(name), ignore_errors=True)

    def release(self, node: str) -> Path:
        return (self.root(node) / "current").resolve()

    def state(self, node: str) -> dict[str, str]:
        """What a node holds."""
        return contents(self.root(node))


def changed(stdout: str) -> int:
    """How many changes the play's recap counts."""
    recap = stdout.rpartition("PLAY RECAP")[2].split()
    return sum(int(word.partition("=")[2]) for word in recap if word.startswith("changed="))
