# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepared datasets as `axolotl preprocess` of Axolotl 0.19.0 leaves them (datasets 4.8.4), with other rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

NAME = "814cbf5855169c171b6fac75f16d05a1"


def prepare(path: Path, rows: Sequence[str], name: str = NAME, fingerprint: str = "71c8da89bcd2a6d0") -> None:
    """Make one prepared dataset with one file for each of `rows`."""
    folder = path / name
    folder.mkdir(parents=True)
    names = [f"data-{number:05}-of-{len(rows):05}.arrow" for number in range(len(rows))]
    for file, content in zip(names, rows, strict=True):
        (folder / file).write_text(content)
    (folder / "dataset_info.json").write_text('{"citation": "", "features": {}, "homepage": ""}')
    state = {
        "_data_files": [{"filename": file} for file in names],
        "_fingerprint": fingerprint,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    (folder / "state.json").write_text(json.dumps(state, indent=2))
