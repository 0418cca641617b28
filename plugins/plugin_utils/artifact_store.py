# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's folder of artifacts: one verdict per verb, one folder per run; files are replaced in one step."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.masking import mask_document
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.files import replace_file

KEPT = "files"
"""Folder of a run's own copies of what it was launched with."""


class ArtifactError(Exception):
    """The folder can't be used, or another process writes the same verdict."""


class ArtifactStore:
    """Artifacts under one folder."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder).absolute()

    def verdict_path(self, verb: str) -> Path:
        return self.folder / f"{verb}.json"

    def smoke_path(self) -> Path:
        return self.folder / "smoke.json"

    def run_folder(self, run_id: str) -> Path:
        return self.folder / run_id

    def read(self, path: Path) -> dict[str, Any]:
        """Read a JSON object.

        Raises:
            ArtifactError: it is missing or no JSON object.
        """
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{path}: {error}") from error
        if not isinstance(value, dict):
            raise ArtifactError(f"{path}: not an object")
        return value

    def write_json(self, path: Path, value: Any) -> None:
        self.write(path, json.dumps(value, indent=2, sort_keys=True, default=str) + "\n")

    def keep(self, run_id: str, source: str, sha256: str) -> None:
        """Keep a copy of a text that a run is launched with, so that it can be run again when that has changed.

        One with secrets in it is not copied, and one that has changed already is not what the run gets.

        Raises:
            ArtifactError: it can't be written.
        """
        try:
            content = Path(source).read_bytes()
            text = content.decode("utf-8")
        except (OSError, UnicodeDecodeError):
            return
        if hashlib.sha256(content).hexdigest() == sha256 and mask_document(text) == text:
            self.write(self.run_folder(run_id) / KEPT / Path(source).name, text)

    def write(self, path: Path, content: str) -> None:
        """Replace a file, so that neither a reader nor an interruption ever sees half of it.

        Raises:
            ArtifactError: it can't be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(str(path), content)
        except OSError as error:
            raise ArtifactError(f"{path} can't be written: {error.strerror}; set gpufleet_artifacts_dir") from error
