# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a training reads: every path that the config names, once, and every name on the Hub in its version."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import training_inputs

HOME = {"HOME": "/opt/axolotl/work"}
HUB = "/opt/axolotl/work/.cache/huggingface/hub"
KEYS = [
    *training_inputs.MODEL_KEYS,
    *training_inputs.DATASET_KEYS,
    *training_inputs.FILE_KEYS,
    *("lora_model_dir", "revision_of_model", "dataset_prepared_path", "streaming", "skip_prepare_dataset"),
]


def listed(config: dict[Any, Any], *dests: str, overrides: Any = None, **environment: str) -> list[dict[str, Any]]:
    files = [{"dest": dest} for dest in dests]
    return training_inputs.inputs(config, overrides or {}, files, {**HOME, **environment})


def paths(config: dict[Any, Any], *dests: str) -> list[str]:
    return [entry["path"] for entry in listed(config, *dests) if entry["kind"] == "path"]


@pytest.mark.parametrize("key", [*training_inputs.MODEL_KEYS, "lora_model_dir", *training_inputs.FILE_KEYS])
@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("/data/x", "/data/x"),
        ("./x", "/opt/axolotl/work/x"),
        ("../x", "/opt/axolotl/x"),
        ("~/x", "/opt/axolotl/work/x"),
    ],
)
def test_a_path_in_any_key_is_read(key: str, value: str, path: str) -> None:
    assert paths({key: value}) == [path]


@pytest.mark.parametrize("key", training_inputs.DATASET_KEYS)
def test_data_is_read_wherever_the_config_names_it(key: str) -> None:
    config = {
        key: [
            {"path": "/data/a", "chat_template_jinja": "./chat.jinja"},
            {"path": "json", "data_files": ["b.jsonl", "/data/c.jsonl"]},
            {"path": "org/set", "data_files": {"train": "./d.jsonl", "test": ["./e.jsonl"]}},
        ]
    }
    assert [(entry["name"].partition(":")[0], entry["path"]) for entry in listed(config)] == [
        (f"{key}[0].path", "/data/a"),
        (f"{key}[0].chat_template_jinja", "/opt/axolotl/work/chat.jinja"),
        (f"{key}[1].data_files", "/opt/axolotl/work/b.jsonl"),
        (f"{key}[1].data_files", "/data/c.jsonl"),
        (f"{key}[2].path", "/opt/axolotl/work/org/set"),
        (f"{key}[2].data_files", "/opt/axolotl/work/d.jsonl"),
        (f"{key}[2].data_files", "/opt/axolotl/work/e.jsonl"),
    ]
    assert [entry["kind"] for entry in listed(config)].count("hub") == 1
    assert listed({key: {"path": "/data/a"}})[0]["name"] == f"{key}.path: /data/a"
    assert paths({key: "/data/a"}) == ["/data/a"]


def test_training_files_come_first_and_what_lies_in_them_is_not_read_twice() -> None:
    config = {"base_model": "model", "datasets": [{"path": "sets/train.jsonl"}], "tokenizer_config": "./model/tokens"}
    assert [entry["name"] for entry in listed(config, "model", "sets")] == ["model", "sets"]
    assert paths(config, "model", "sets") == ["/opt/axolotl/work/model", "/opt/axolotl/work/sets"]
    assert paths({"base_model": "/srv/m", "tokenizer_config": "/srv/m/tokens"}) == ["/srv/m"]
    assert paths({"base_model": "/srv/m"}, "/srv/m") == ["/srv/m"]
    assert paths({"base_model": "/srv/models"}, "/srv/model") == ["/srv/model", "/srv/models"]


def test_what_the_prepared_dataset_depends_on_is_known() -> None:
    config = {"base_model": "/m", "lora_model_dir": "/l", "deepspeed": "ds.json", "datasets": [{"path": "d/a.jsonl"}]}
    found = {entry["name"]: (entry["prepares"], entry["dataset"]) for entry in listed(config, "d", "notes")}
    assert found == {
        "d": (True, True),
        "notes": (False, False),
        "base_model: /m": (True, False),
        "lora_model_dir: /l": (False, False),
        "deepspeed: ds.json": (False, False),
    }


@pytest.mark.parametrize(
    ("pattern", "path"),
    [("./data/*.jsonl", "/opt/axolotl/work/data"), ("/data/part-?/[ab].jsonl", "/data")],
)
def test_a_pattern_stands_for_the_folder_above_it(pattern: str, path: str) -> None:
    assert paths({"datasets": [{"path": "json", "data_files": pattern}]}) == [path]


@pytest.mark.parametrize("value", [".", "./", "..", "/", "/opt", "~", "./*.jsonl"])
def test_the_folder_in_which_the_training_writes_is_no_input(value: str) -> None:
    assert paths({"datasets": [{"path": value}]}) == []


@pytest.mark.parametrize(
    "value", ["https://example.org/a.json", "s3://bucket/a", "json", "a b", "a/b/c", "", "x" * 2000]
)
def test_what_is_neither_a_path_nor_a_name_on_the_hub_is_passed_over(value: str) -> None:
    assert listed({"datasets": [{"path": value}]}) == []


def test_names_on_the_hub_lead_to_the_cache_that_the_trainers_use() -> None:
    config = {
        "base_model": "org/model",
        "tokenizer_config": "org/model",
        "revision_of_model": "v2",
        "datasets": [{"path": "org/set", "revision": "f" * 40}, {"path": "org/model"}],
    }
    model, dataset, other = listed(config)
    assert (model["name"], model["kind"]) == ("base_model: org/model", "hub")
    assert (model["repository"], model["revision"]) == (f"{HUB}/models--org--model", "v2")
    assert model["path"] == "/opt/axolotl/work/org/model"
    assert (dataset["repository"], dataset["revision"]) == (f"{HUB}/datasets--org--set", "f" * 40)
    assert (other["repository"], other["revision"]) == (f"{HUB}/datasets--org--model", "main")


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"HF_HOME": "/hf"}, "/hf/hub"),
        ({"HF_HUB_CACHE": "/cache", "HF_HOME": "/hf"}, "/cache"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/huggingface/hub"),
        ({"HF_HOME": "~/hf"}, "/opt/axolotl/work/hf/hub"),
    ],
)
def test_the_hubs_cache_is_where_the_environment_says(environment: dict[str, str], folder: str) -> None:
    assert listed({"base_model": "gpt2"}, **environment)[0]["repository"] == f"{folder}/models--gpt2"


def test_overrides_of_the_launch_win() -> None:
    config = {"base_model": "/a", "dataset_prepared_path": "./one"}
    assert [entry["path"] for entry in listed(config, overrides={"base_model": "/b"})] == ["/b"]
    assert training_inputs.prepared_path(config, {"dataset_prepared_path": "/two"}, "/work") == "/two"


def test_where_datasets_are_prepared() -> None:
    def where(**config: Any) -> str:
        return training_inputs.prepared_path(config, {}, "/work")

    assert where() == "/work/last_run_prepared"
    assert where(dataset_prepared_path="./p") == "/work/p"
    assert where(dataset_prepared_path=None) == where(dataset_prepared_path=7) == "/work/last_run_prepared"
    assert where(skip_prepare_dataset=True) == where(pretraining_dataset=[{"path": "x"}]) == where(streaming=True) == ""


@pytest.mark.parametrize(("value", "off"), [("1", True), ("true", True), ("YES", True), ("0", False), ("", False)])
def test_whether_the_hub_is_off_limits(value: str, off: bool) -> None:
    assert training_inputs.offline({"HF_HUB_OFFLINE": value}) is off
    assert training_inputs.offline({"TRANSFORMERS_OFFLINE": value}) is off


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["/a", "./b", "~", "o/m", "*"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(["path", "data_files"]), inner)
    ),
    max_leaves=8,
)


@given(config=st.dictionaries(st.sampled_from(KEYS) | st.text() | st.integers(), ANYTHING, max_size=6))
def test_no_config_raises_and_all_that_is_listed_is_whole(config: dict[Any, Any]) -> None:
    found = listed(config, "data", "/srv/model", overrides={"base_model": config.get("tokenizer_config")})
    json.dumps(found)
    names = [entry["name"] for entry in found]
    assert len(set(names)) == len(names)
    for entry in found:
        assert entry["path"].startswith("/")
        assert (entry["kind"] == "hub") == ("repository" in entry)
    path = training_inputs.prepared_path(config, {}, "/work")
    assert path == "" or path.startswith("/")


# The base model


@pytest.mark.parametrize(
    ("config", "dests", "path"),
    [
        ({"base_model": "./model"}, [], "/opt/axolotl/work/model"),
        ({"base_model": "/data/model"}, [], "/data/model"),
        ({"base_model": "model"}, ["model"], "/opt/axolotl/work/model"),
        ({"base_model": "org/model"}, [], "/opt/axolotl/work/org/model"),
        ({"base_model": "org/model", "base_model_config": "org/model"}, [], "/opt/axolotl/work/org/model"),
        ({"base_model": "./model", "base_model_config": "org/other"}, [], None),
        ({"base_model": ["x"]}, [], None),
        ({}, [], None),
    ],
)
def test_where_the_base_model_is(config: dict[str, Any], dests: list[str], path: str | None) -> None:
    found = training_inputs.base_model(config, {}, [{"dest": dest} for dest in dests], HOME)
    assert found.get("path") == path


def test_a_base_model_on_the_hub_is_in_its_cache_in_one_version() -> None:
    config = {"base_model": "org/x", "revision_of_model": "v1"}
    assert training_inputs.base_model(config, {"base_model": "org/model"}, [], HOME) == {
        "path": "/opt/axolotl/work/org/model",
        "repository": f"{HUB}/models--org--model",
        "revision": "v1",
    }
