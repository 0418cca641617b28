# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixture has the same bytes everywhere: the losses that other tests expect follow from them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[3] / "tools" / "tiny_fixture.py"
DIGESTS = {
    "data.jsonl": "c25f9958210d0cf259b0756e27e2fbc1969f0acc89c091432451bdf3aa8dee5a",
    "model/config.json": "349a0cab5684f142f05c9697ceb55a6914e1517a4ac1bc8b79e713701dc39f6b",
    "model/model.safetensors": "b92c9a0d0a34aec1077e8fa1b6a78633f0c366d11ceec86dc36b0ac1746484c8",
    "model/tokenizer.json": "0242f611006de58af277dae587d732068865d127ed3c28af72c29666a946608a",
    "model/tokenizer_config.json": "da600037735a09aaaf2c2a3152eef68edf9e8768d175ad40de669da88fe99a53",
}


@pytest.fixture
def fixture(tmp_path: Path) -> Path:
    subprocess.run([sys.executable, TOOL, tmp_path], check=True, capture_output=True)
    return tmp_path


def test_the_bytes_are_the_known_ones(fixture: Path) -> None:
    files = [path for path in fixture.rglob("*") if path.is_file()]
    digests = {str(path.relative_to(fixture)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert digests == DIGESTS


def test_a_second_run_writes_nothing(fixture: Path) -> None:
    again = subprocess.run([sys.executable, TOOL, fixture], check=True, capture_output=True, text=True)
    assert again.stdout == ""


def test_every_word_of_the_data_is_one_token(fixture: Path) -> None:
    """Rows of equal length make `tokens/total` of N nodes exactly N times that of one."""
    model = json.loads((fixture / "model" / "tokenizer.json").read_text())["model"]
    assert model["ignore_merges"] is True
    for line in (fixture / "data.jsonl").read_text().splitlines():
        row = json.loads(line)
        for text, length in ((row["instruction"], 6), (row["output"], 10)):
            first, *rest = text.split(" ")
            assert len(rest) == length - 1
            assert first in model["vocab"]
            assert all("\u0120" + word in model["vocab"] for word in rest)


def test_the_weights_match_the_config(fixture: Path) -> None:
    content = (fixture / "model" / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    config = json.loads((fixture / "model" / "config.json").read_text())
    assert header["lm_head.weight"]["shape"] == [config["vocab_size"], config["hidden_size"]]
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    assert max(ends) == len(content) - 8 - length
