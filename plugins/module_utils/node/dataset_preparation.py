# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has Axolotl prepare the datasets of a config, and notes from what.

What it makes takes its place only when it is complete: a trainer that finds half of it would take that.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from . import prepared_data, training_inputs
from .commands import run
from .digest_cache import DigestCache
from .file_digests import file_sha256
from .files import replace_file

_PREPARING = ".gpufleet-preparing-"
_LOG_BYTES = 1 << 24


class PreparationError(Exception):
    """Nothing was prepared; the message says why."""


class Preparation(NamedTuple):
    """What is to be prepared, and how.

    Attributes:
        path: folder of the prepared datasets.
        inputs: what the training reads, as the launch plan has it.
        release: folder of the release.
        config: path of the Axolotl config.
        work: folder in which the trainers run.
        options: overrides of the launch as options of ``axolotl``.
        environment: all of the trainers' environment, secrets included.
        log: file for what ``axolotl preprocess`` says.
        timeout: seconds that it may take.
        inputs_timeout: seconds that reading the inputs may take.
        cache: keeps digests of large files.
    """

    path: str
    inputs: Sequence[Mapping[str, Any]]
    release: str
    config: str
    work: str
    options: Sequence[str]
    environment: Mapping[str, str]
    log: str
    timeout: float
    inputs_timeout: float
    cache: DigestCache | None

    def wanted(self) -> dict[str, Any]:
        """What the record of a dataset that is prepared now would say, the folders aside.

        Raises:
            PreparationError: the config or an input can't be read.
        """
        read = training_inputs.read(
            [entry for entry in self.inputs if entry.get("prepares")], self.inputs_timeout, self.cache
        )
        problems = [problem for found in read.values() for problem in found["problems"]]
        if problems:
            raise PreparationError(f"what the dataset is prepared from can't be read: {'; '.join(problems[:3])}")
        try:
            config = file_sha256(self.config)
        except OSError as error:
            raise PreparationError(f"{self.config}: {error.strerror or error}") from None
        return {
            "inputs": {name: found["revision"] or found["data_digest"] for name, found in read.items()},
            "config": config,
            "options": list(self.options),
            "release": os.path.basename(os.path.realpath(self.release)),
        }

    def is_done(self, wanted: Mapping[str, Any]) -> bool:
        """Whether all of that is prepared already, and undamaged."""
        record = prepared_data.read_record(self.path)
        folders = record.pop("folders", {})
        return bool(folders) and record == wanted and prepared_data.digest(self.path, self.cache) != ""

    def prepare(self, before: Mapping[str, Any]) -> None:
        """Have Axolotl do it, and put what it made into its place.

        Args:
            before: what `wanted` said; only the versions on the Hub may change meanwhile, when it is asked for them.

        Raises:
            PreparationError: Axolotl failed or made nothing, or the data changed under its hands.
            OSError: there is no room for it, or the folder can't be written to.
        """
        for name in os.listdir(self.path):
            if name.startswith(_PREPARING):  # of an attempt that was cut off
                shutil.rmtree(os.path.join(self.path, name), ignore_errors=True)
        # A name of its own: what a lost connection left running must not write into this.
        making = tempfile.mkdtemp(prefix=_PREPARING, dir=self.path)
        try:
            self._run(making)
            folders = prepared_data.folders(making)
            self._check(folders)
            after = self.wanted()
            local = {name for name, value in before["inputs"].items() if len(value) == 64}
            if any(after["inputs"][name] != before["inputs"][name] for name in local):
                raise PreparationError("the data changed while it was prepared: provision again")
            self._take(making, folders, after)
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def _run(self, making: str) -> None:
        programs = os.path.join(os.path.realpath(self.release), "venv", "bin")
        # Which folder it writes to is not part of the name that it gives a prepared dataset.
        command = [f"{programs}/axolotl", "preprocess", self.config, *self.options, f"--dataset-prepared-path={making}"]
        environment = {**self.environment, "PATH": f"{programs}:{self.environment.get('PATH', os.defpath)}"}
        done = run(command, self.timeout, environment, self.work, _LOG_BYTES, inherit=False)
        replace_file(self.log, f"{done.stdout}\n{done.stderr}\n", mode=0o600)
        if done.rc or done.timed_out:
            raise PreparationError(f"axolotl preprocess failed: {done.message(1500)}; see {self.log}")

    def _check(self, folders: Mapping[str, Mapping[str, Any]]) -> None:
        """Its exit code is 0 for a config that prepares nothing, too."""
        problems = [f"{name}: {found['problems'][0]}" for name, found in folders.items() if found["problems"]]
        if problems or not folders:
            said = "; ".join(problems) or "nothing is there"
            raise PreparationError(f"axolotl preprocess ended well, but prepared no dataset: {said}; see {self.log}")

    def _take(self, making: str, folders: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Any]) -> None:
        record = os.path.join(self.path, prepared_data.RECORD)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(record)  # cut off from here on, nobody takes what is there for what was noted
        for name in folders:
            place = os.path.join(self.path, name)
            if os.path.lexists(place):
                os.rename(place, os.path.join(making, f"before-{name}"))
            os.rename(os.path.join(making, name), place)
        content = {**wanted, "folders": {name: found["digest"] for name, found in folders.items()}}
        replace_file(record, json.dumps(content, indent=2, sort_keys=True) + "\n", durable=True)
