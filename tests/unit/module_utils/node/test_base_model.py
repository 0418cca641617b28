# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model's layers are read from the file that defines its architecture, its size from the files with its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import base_model

COMMIT = "a" * 40
SOURCES = {
    "llama/modeling_llama.py": """
class LlamaMLP(nn.Module):
    pass
class LlamaDecoderLayer(GradientCheckpointingLayer):
    pass
class LlamaPreTrainedModel(PreTrainedModel):
    _no_split_modules = ["LlamaDecoderLayer"]
""",
    "tower/modeling_tower.py": """
class TowerBlock(nn.Module): ...
class TowerModel(PreTrainedModel):
    _no_split_modules: list[str] | None = [
        r"TowerBlock",
        'TowerHead',
    ]
class TowerOther(TowerModel):
    _no_split_modules = None
""",
    "auto/auto_mappings.py": """
CONFIG_MAPPING_NAMES = OrderedDict([("tower-text", "TowerTextConfig"), ("llama", "LlamaConfig")])
SPECIAL_MODEL_TYPE_TO_MODULE_NAME = OrderedDict([
    ("tower-text", "tower"),
])
""",
}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    models = tmp_path / "release/venv/lib/python3.12/site-packages/transformers/models"
    for name, content in SOURCES.items():
        (models / name).parent.mkdir(parents=True, exist_ok=True)
        (models / name).write_text(content)
    return tmp_path / "release"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return folder


def safetensors(path: Path, *tensors: tuple[str, list[int]]) -> int:
    """A file as the format has it: the header's length, the header, and nothing that anybody reads here."""
    listed = {str(number): {"dtype": kind, "shape": shape} for number, (kind, shape) in enumerate(tensors)}
    header = json.dumps({"__metadata__": {"format": "pt"}, **listed}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    return path.stat().st_size


def read(model: Path, release: Path, **place: str) -> dict[str, Any]:
    return base_model.read({"path": str(model), "repository": "", "revision": "main", **place}, str(release))


def test_layers_and_classes_of_the_architecture(model: Path, release: Path) -> None:
    found = read(model, release)
    assert (found["folder"], found["model_types"], found["error"]) == (str(model), ["llama"], None)
    assert found["layers"] == ["LlamaDecoderLayer"]
    assert found["classes"] == ["LlamaDecoderLayer", "LlamaMLP", "LlamaPreTrainedModel"]


def test_a_model_that_is_made_of_others_has_the_layers_of_all(model: Path, release: Path) -> None:
    config = {"model_type": "unheard_of", "text_config": {"model_type": "tower-text"}, "x": [{"model_type": "llama"}]}
    (model / "config.json").write_text(json.dumps(config))
    found = read(model, release)
    assert found["model_types"] == ["unheard_of", "tower-text"]
    assert found["layers"] == ["TowerBlock", "TowerHead"]


def test_code_that_comes_with_the_model_counts_where_the_model_says_so(model: Path, release: Path) -> None:
    (model / "modeling_own.py").write_text(
        'class OwnLayer(nn.Module): ...\nclass Own(X):\n    _no_split_modules = ["OwnLayer"]\n'
    )
    config: dict[str, Any] = {"model_type": "own"}
    (model / "config.json").write_text(json.dumps(config))
    assert read(model, release)["layers"] == []
    (model / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "modeling_own.Own"}}))
    assert read(model, release)["layers"] == ["OwnLayer"]


def test_the_files_of_the_index_are_what_is_loaded(model: Path, release: Path) -> None:
    sizes = [safetensors(model / f"model-{part}.safetensors", ("BF16", [3, 5]), ("F32", [])) for part in (1, 2)]
    safetensors(model / "consolidated.safetensors", ("BF16", [1000]))
    (model / "pytorch_model.bin").write_bytes(b"x" * 500)
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "../model-1.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    found = read(model, release)
    assert (found["bytes"], found["parameters"]) == (sum(sizes), 2 * (15 + 1))


def test_a_model_in_one_file_and_one_in_another_format(model: Path, release: Path) -> None:
    assert (read(model, release)["bytes"], read(model, release)["parameters"]) == (None, None)
    (model / "pytorch_model.bin").write_bytes(b"x" * 500)
    assert (read(model, release)["bytes"], read(model, release)["parameters"]) == (500, None)
    size = safetensors(model / "model.safetensors", ("F16", [2, 2]))
    assert (read(model, release)["bytes"], read(model, release)["parameters"]) == (size, 4)
    safetensors(model / "model.safetensors", ("F16", [2, 2]), ("U8", [2, 2]))  # quantised
    assert read(model, release)["parameters"] is None


def test_a_model_in_the_hubs_cache(tmp_path: Path, model: Path, release: Path) -> None:
    repository = tmp_path / "models--org--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    place = {"path": str(tmp_path / "work/org/name"), "repository": str(repository)}
    assert read(model, release, **place) == {**base_model.NOTHING, "error": None}
    (repository / "snapshots").mkdir()
    model.rename(repository / "snapshots" / COMMIT)
    assert read(model, release, **place)["layers"] == ["LlamaDecoderLayer"]
    assert read(model, release, **place, revision=COMMIT)["layers"] == ["LlamaDecoderLayer"]
    assert read(model, release, **place, revision="b" * 40)["folder"] is None


@pytest.mark.parametrize(
    "config", ["", "[]", "{", '{"model_type": 3}', '{"model_type": "../../x"}', "[" * 5000, '{"model_type": "*"}']
)
def test_a_config_of_another_kind_is_no_error(model: Path, release: Path, config: str) -> None:
    (model / "config.json").write_text(config)
    found = read(model, release)
    assert (found["layers"], found["classes"], found["error"]) == ([], [], None)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 8, (9).to_bytes(8, "little") + b"{", b"\x02" + b"\0" * 7 + b"[]", b"\x01" + b"\0" * 7 + b"3"],
)
def test_weights_of_another_kind_are_no_error(model: Path, release: Path, content: bytes) -> None:
    (model / "model.safetensors").write_bytes(content)
    assert read(model, release)["parameters"] is None


def test_a_release_without_transformers(model: Path, tmp_path: Path) -> None:
    found = read(model, tmp_path / "nothing")
    assert (found["model_types"], found["layers"], found["error"]) == (["llama"], [], None)
