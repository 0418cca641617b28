# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A probe that hangs or fails says so in its own section, and the rest is reported as if it were not there."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from unit.fleets import plan_of

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import fingerprint
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import rules_health, rules_preflight

PLACES = {
    "system": (fingerprint.probe_system, "read"),
    "gpus": (fingerprint.probe_hardware, "devices"),
    "libraries": (fingerprint, "_libraries"),
    "nccl": (fingerprint.probe_nccl, "read"),
    "release": (fingerprint.release_directory, "read_release"),
    "config": (fingerprint.config_file, "read"),
    "schema": (fingerprint.config_schema, "read"),
    "base_model": (fingerprint.base_model, "read"),
    "accelerate": (fingerprint.accelerate_config, "read"),
    "data": (fingerprint.training_inputs, "read"),
    "room": (fingerprint.probe_room, "read"),
    "storage": (fingerprint.storage, "look"),
    "runs": (fingerprint.run_reader, "active_runs"),
    "network": (fingerprint.probe_network, "read"),
    "limits": (fingerprint.probe_limits, "read"),
    "infiniband": (fingerprint.infiniband_stack, "stack"),
}


ELSEWHERE = {"runs", "data"}
"""Probes whose sections have no place for an error."""


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return {
        "release": str(tmp_path / "release"),
        "config": str(tmp_path / "train.yml"),
        "config_sha256": "",
        "schema": {"overrides": {}, "world_size": 2},
        "base_model": {"path": str(tmp_path / "model"), "repository": "", "revision": "main"},
        "inputs": [],
        "inputs_timeout": 60,
        "prepared": "",
        "digest_cache": "",
        "rehash": False,
        "runs": str(tmp_path / "runs"),
        "ports": [],
        "train_options": [],
        "accelerator": "cpu",
        "address": "127.0.0.1",
        "head_address": "127.0.0.1",
        "login_address": "",
        "root": str(tmp_path),
        "marker": "x",
        "supervisor": "process",
        "environment": {},
        "output_dir": "",
    }


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """What hangs waits for it, and is let go after the test."""
    event = threading.Event()
    yield event
    event.set()


def error_of(found: dict[str, Any], name: str) -> Any:
    return found["errors"].get(name) if name in ELSEWHERE else found[name]["error"]


def test_every_probe_has_a_limit(options: dict[str, Any]) -> None:
    assert set(fingerprint.read(options)["seconds"]) == set(PLACES) == {*fingerprint.SECONDS, "data"}


@pytest.mark.parametrize("name", PLACES)
def test_a_probe_that_hangs_leaves_the_others_alone(
    options: dict[str, Any], never: threading.Event, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    healthy = fingerprint.read(options)
    monkeypatch.setattr(fingerprint, "SECONDS", {**fingerprint.SECONDS, name: 1})
    monkeypatch.setattr(*PLACES[name], lambda *arguments: never.wait())
    found = fingerprint.read(options)
    json.dumps(found)
    assert error_of(found, name) == "no answer within 1 s"
    for other in set(PLACES) - {name}:
        assert error_of(found, other) == error_of(healthy, other)
    assert found.keys() == healthy.keys()
    if name not in ELSEWHERE:
        assert found[name].keys() == healthy[name].keys()


@pytest.mark.parametrize("name", PLACES)
def test_a_probe_that_fails_says_how(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def fail(*arguments: Any) -> NoReturn:
        raise RuntimeError("the unexpected")

    monkeypatch.setattr(*PLACES[name], fail)
    assert error_of(fingerprint.read(options), name) == "RuntimeError: the unexpected"


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("accelerator", ["cuda", "cpu"])
def test_whatever_hangs_is_a_finding(
    options: dict[str, Any],
    never: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    accelerator: str,
) -> None:
    """The rules meet a section without content and say that it is missing, once at least."""
    plan = plan_of(1, accelerator=accelerator, nproc_per_node=1)
    monkeypatch.setattr(fingerprint, "SECONDS", {**fingerprint.SECONDS, name: 1})
    monkeypatch.setattr(*PLACES[name], lambda *arguments: never.wait())
    prints = {"node0": fingerprint.read({**options, "accelerator": accelerator})}
    findings = [*rules_preflight.examine(plan, prints)]
    findings += [finding for rule in rules_health.RULES for finding in rule(plan, prints)]
    assert any("no answer within 1 s" in finding.found for finding in findings)


def test_the_nccl_that_is_loaded_decides_which_file_counts(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    nccl = {"version": "2.30.3", "path": "/x"}
    monkeypatch.setattr(fingerprint, "_libraries", lambda options: {"nccl": nccl, "error": None})
    found = fingerprint.read({**options, "environment": {"HOME": "/opt/home"}})
    assert found["nccl"]["files"][0]["path"] == "/opt/home/.nccl.conf"
