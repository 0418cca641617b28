# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image of a test host: Debian 12 with systemd and sshd, from a registry or, without one, from its packages."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from .engine import Engine

RECIPE = Path(__file__).resolve().parent / "image"
REPOSITORY = "localhost/gpufleet-host"
PULL_TIMEOUT = 60
"""Seconds in which a registry that can be reached has sent debian:12, which is 50 MB."""


def name() -> str:
    """The image's name; its tag follows from the recipe, so that a changed recipe is built anew."""
    digest = hashlib.sha256()
    for path in sorted(RECIPE.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{REPOSITORY}:{digest.hexdigest()[:12]}"


def ensure(engine: Engine, cache: Path) -> str:
    """Have the image in the engine's storage, and give its name.

    Raises:
        RuntimeError: neither a registry nor Debian's packages could be had; the message is what the tool said.
    """
    image = name()
    if engine.succeeds("image", "inspect", image):
        return image
    if _base_can_be_pulled(engine):
        engine.run("build", "--tag", image, str(RECIPE))
    else:
        archive = _debian_root(cache / f"{image.rpartition(':')[2]}.tar")
        engine.run("import", "--change", 'CMD ["/sbin/init"]', str(archive), image)
    return image


def _base_can_be_pulled(engine: Engine) -> bool:
    try:
        return engine.succeeds("pull", "--quiet", "docker.io/library/debian:12", timeout=PULL_TIMEOUT)
    except subprocess.TimeoutExpired:
        return False


def _debian_root(path: Path) -> Path:
    """Install the same packages into an empty root, and keep it as an archive."""
    if path.exists():
        return path
    print("no image registry answers: the image is made from Debian's packages (about a minute)", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part.tar")
    packages = ",".join((RECIPE / "packages").read_text().split())
    setup = f"--customize-hook=copy-in {RECIPE}/setup.sh /tmp", "--customize-hook=chroot $1 sh /tmp/setup.sh"
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", *setup]
    done = subprocess.run([*command, "bookworm", str(unfinished)], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"mmdebstrap: {done.stderr.strip()[-2000:]}")
    os.replace(unfinished, path)
    return path
