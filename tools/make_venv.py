# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes .venv: this project, editable, with its development tools. Needs Python's standard library alone.

pip fetches uv, and uv the rest, which takes seconds instead of a minute.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"

MISSING_VENV = (
    "This Python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv git make"
)


def pip_config() -> dict[str, str]:
    """Give pip's effective configuration, files and PIP_* variables together."""
    listing = subprocess.run([PYTHON, "-m", "pip", "config", "list"], check=True, stdout=subprocess.PIPE, text=True)
    # By path, since the collection can't be imported before it is installed.
    mapping = runpy.run_path(str(ROOT / "plugins/module_utils/core/uv_environment.py"))
    return dict(mapping["uv_environment"](mapping["parse_pip_config_list"](listing.stdout)))


def main() -> None:
    try:
        import ensurepip  # noqa: F401  # Debian splits it from Python; venv alone would fail half-way
        import venv
    except ImportError:
        sys.exit(MISSING_VENV)

    venv.create(VENV, clear=True, symlinks=True, with_pip=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "uv"], check=True)
    subprocess.run(
        [VENV / "bin" / "uv", "pip", "install", "--quiet", "--python", PYTHON, "--group", "dev", "--editable", "."],
        cwd=ROOT,
        env={**pip_config(), **os.environ},
        check=True,
    )


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # the tool has said why
