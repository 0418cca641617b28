# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The release's schema is asked in its own Python: here a stand-in for Axolotl, made as its schema is."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import config_schema

PARTS = """
from pydantic import AliasChoices, BaseModel, Field

class FSDPConfig(BaseModel):
    fsdp_version: int | None = Field(validation_alias=AliasChoices("fsdp_version", "version"), default=None)
    offload_params: bool | None = None

class Dataset(BaseModel):
    path: str | None = None

class Other(BaseModel):
    split: str | None = None
"""
SCHEMA = """
import os
from typing import Any
from pydantic import BaseModel, Field, field_validator, model_validator
from axolotl.utils.schemas.parts import Dataset, FSDPConfig, Other

class AxolotlInputConfig(BaseModel):
    model_config = {"populate_by_name": True}
    base_model: str
    learning_rate: float = 0.1
    optimizer: str | None = None
    tokens: str | None = None
    type_of_model: str | None = Field(default=None, alias="model_type")
    datasets: list[Dataset | Other] | None = None
    fsdp_config: FSDPConfig | None = None
    model_kwargs: dict[str, Any] | FSDPConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def check_old_names(cls, data):
        if data.get("wandb_run_id"):
            data["wandb_name"] = data.pop("wandb_run_id")
        return data

    @field_validator("tokens")
    @classmethod
    def deprecated(cls, value):
        raise DeprecationWarning("tokens is no longer supported: hf_0123456789abcdefghij")

    @model_validator(mode="after")
    def check_optimizer(self):
        if self.optimizer == "environment":
            raise ValueError(" ".join(sorted(f"{name}={value}" for name, value in os.environ.items())))
        if self.optimizer == "bad":
            raise ValueError("it is not compatible")
        return self

class AxolotlConfigWCapabilities(AxolotlInputConfig):
    capabilities: dict
    env_capabilities: dict

    @model_validator(mode="after")
    def check_capabilities(self):
        if self.optimizer == "capabilities":
            raise ValueError(f"{self.capabilities} {self.env_capabilities}")
        return self
"""
PLUGINS = """
class PluginManager:
    instance, names = None, []
    @classmethod
    def get_instance(cls):
        cls.instance = cls.instance or cls()
        return cls.instance
    def register(self, name):
        self.names.append(name)
"""
MERGE = """
from axolotl.utils.schemas import config
from axolotl.integrations.base import PluginManager
def merge_input_args():
    class Merged(config.AxolotlConfigWCapabilities):
        liger_rope: bool
    return (Merged if PluginManager.names else config.AxolotlConfigWCapabilities), None
"""


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release whose Python is this one, with the stand-in on its path."""
    site = tmp_path / "site"
    files = {
        "axolotl/utils/schemas/config.py": SCHEMA,
        "axolotl/utils/schemas/parts.py": PARTS,
        "axolotl/integrations/base.py": PLUGINS,
        "axolotl/integrations/config.py": MERGE,
        "torch-2.13.0+cpu.dist-info/METADATA": "Name: torch\nVersion: 2.13.0+cpu\n",
    }
    for name, content in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(content)
    python = tmp_path / "release" / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return tmp_path / "release"


def ask(release: Path, config: Any = None, **overrides: Any) -> dict[str, Any]:
    path = release.parent / "train.yml"
    path.write_text(config if isinstance(config, str) else yaml.safe_dump({"base_model": "./model", **(config or {})}))
    environment = {"HOME": str(release.parent), "PATH": "/usr/bin:/bin"}
    return config_schema.read(str(release), str(path), overrides, 16, "cuda", environment)


def test_the_keys_that_it_knows_by_their_places(release: Path) -> None:
    found = ask(release)
    assert (found["error"], found["refused"], found["foreign_plugins"]) == (None, [], [])
    top = set(found["keys"][""])
    assert {"base_model", "type_of_model", "model_type", "wandb_run_id", "fsdp_config"} <= top
    assert "offload_params" not in top
    assert found["keys"]["fsdp_config"] == ["fsdp_version", "offload_params", "version"]
    assert found["keys"]["datasets"] == ["path", "split"]
    assert "model_kwargs" not in found["keys"]  # it takes anything


@pytest.mark.parametrize(
    ("config", "refused"),
    [
        ({"learning_rate": "much"}, ["learning_rate", "Input should be a valid number, unable to parse string"]),
        ({"fsdp_config": {"offload_params": "x"}}, ["fsdp_config.offload_params", "Input should be a valid boolean"]),
        ({"optimizer": "bad"}, ["", "Value error, it is not compatible"]),
        ({"base_model": None}, ["base_model", "Input should be a valid string"]),
    ],
)
def test_what_it_refuses(release: Path, config: dict[str, Any], refused: list[str]) -> None:
    ((key, message),) = ask(release, config)["refused"]
    assert key == refused[0]
    assert message.startswith(refused[1])


def test_what_a_validator_raises_is_a_refusal_too_and_shows_no_secret(release: Path) -> None:
    assert ask(release, {"tokens": "x"})["refused"] == [
        ["", "DeprecationWarning: tokens is no longer supported: ********"]
    ]


def test_overrides_count(release: Path) -> None:
    assert ask(release, {"learning_rate": "much"}, learning_rate=0.5)["refused"] == []
    assert ask(release, {"fsdp_config": {"offload_params": True}}, **{"fsdp_config.version": "x"})["refused"] == [
        ["fsdp_config.version", "Input should be a valid integer, unable to parse string as an integer"]
    ]
    assert ask(release, **{"fsdp_config.offload_params": "x"})["refused"][0][0] == "fsdp_config.offload_params"


def test_it_answers_as_for_a_gpu_that_can_do_all(release: Path) -> None:
    ((_key, message),) = ask(release, optimizer="capabilities")["refused"]
    assert "'bf16': True" in message
    assert "'n_gpu': 16" in message
    assert "'torch_version': '2.13.0'" in message


def test_the_environment_is_the_trainers_without_gpus_and_without_the_net(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIVATE_TO_THIS_PROCESS", "1")
    monkeypatch.setattr(config_schema, "LONGEST", 9999)
    ((_key, message),) = ask(release, optimizer="environment")["refused"]
    said = message.removeprefix("Value error, ").split()
    assert {"AXOLOTL_DO_NOT_TRACK=1", "CUDA_VISIBLE_DEVICES=", "HF_HUB_OFFLINE=1", "PYTHONDONTWRITEBYTECODE=1"} <= {
        *said
    }
    assert f"HOME={release.parent}" in said
    assert not any(item.startswith("PRIVATE") for item in said)
    (folder,) = [item.partition("=")[2] for item in said if item.startswith("TMPDIR=")]
    assert not os.path.exists(folder)


def test_keys_of_its_own_plugins_are_known_and_others_are_not_run(release: Path) -> None:
    (release.parent / "mine.py").write_text("raise SystemExit('it was run')\n")
    found = ask(release, {"plugins": ["axolotl.integrations.liger.LigerPlugin", "mine.Plugin"]})
    assert (found["error"], found["refused"], found["foreign_plugins"]) == (None, [], ["mine.Plugin"])
    assert "liger_rope" in found["keys"][""]
    assert "liger_rope" not in ask(release, {"plugins": ["mine.Plugin"]})["keys"][""]


@pytest.mark.parametrize("config", ["- a list\n", "a: [1\n", "\0"])
def test_a_config_that_is_none_is_an_error(release: Path, config: str) -> None:
    found = ask(release, config)
    assert found["error"].startswith("asking Axolotl's schema: ")
    assert found["keys"] is None


def test_a_release_or_a_config_that_is_not_there_is_somebody_elses_finding(release: Path) -> None:
    arguments = ({}, 2, "cpu", {"HOME": str(release.parent)})
    nothing = {**config_schema.NOTHING, "error": None}
    assert config_schema.read(str(release), str(release / "absent.yml"), *arguments) == nothing
    assert config_schema.read(str(release / "absent"), str(release), *arguments) == nothing


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo no such module >&2; exit 1", "asking Axolotl's schema: no such module"),
        ("exit 3", "asking Axolotl's schema: exit code 3"),
        ("echo '{}'", "asking Axolotl's schema: {}"),
        ('echo \'{"keys": 3, "refused": [], "foreign_plugins": []}\'', "asking Axolotl's schema: "),
        ("true", "asking Axolotl's schema: exit code 0"),
        ("sleep 30", "asking Axolotl's schema: no answer within 1 s"),
    ],
)
def test_no_answer_is_an_error(release: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str) -> None:
    monkeypatch.setattr(config_schema, "SECONDS", 1.0)
    (release / "venv" / "bin" / "python").write_text(f"#!/bin/sh\n{script}\n")
    found = ask(release)
    assert found["error"].startswith(said)
    assert found["keys"] is None
    json.dumps(found)
