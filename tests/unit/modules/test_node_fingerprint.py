# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""node_fingerprint as a real module: one call reads a node, and a probe that fails does not stop the others."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from unit.fleets import fingerprints, plan_of
from unit.helpers import free_port, run_module

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import fingerprint, probe_hardware, sockets
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.fingerprint_shape import FINGERPRINT


def read(tmp_path: Path, **arguments: Any) -> dict[str, Any]:
    paths = {"release": tmp_path / "release", "config": tmp_path / "train.yml", "runs": tmp_path / "runs"}
    defaults = {**{name: str(path) for name, path in paths.items()}, "accelerator": "cpu"}
    defaults |= {"address": "127.0.0.1", "head_address": "127.0.0.1"}
    result = run_module("node_fingerprint", {**defaults, **arguments}, check=True)
    assert result["changed"] is False
    found: dict[str, Any] = result["fingerprint"]
    return found


def test_a_node_on_which_nothing_is(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert found["release"]["exists"] is False
    assert found["release"]["unknown_options"] == []
    assert found["config"] == {
        "path": str(tmp_path / "train.yml"),
        "sha256": None,
        "size": 0,
        "error": "No such file or directory",
        "content": None,
        "elsewhere": None,
    }
    assert found["devices"] == {"kind": "cpu", "count": len(os.sched_getaffinity(0)), "error": None}
    assert found["ports"] == {}
    assert found["active_runs"] == {}
    assert found["machine"]["hostname"] == socket.gethostname()


def test_the_configs_bytes_are_what_counts(tmp_path: Path) -> None:
    content = b"learning_rate: 0.001\r\n# \xff\n"
    (tmp_path / "train.yml").write_bytes(content)
    found = read(tmp_path)["config"]
    assert (found["sha256"], found["size"], found["error"]) == (hashlib.sha256(content).hexdigest(), len(content), None)


def test_the_holder_of_a_taken_port_is_named(tmp_path: Path) -> None:
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        ports = read(tmp_path, ports=[taken, free])["ports"]
    assert ports[str(free)] == {"free": True, "holder": None}
    assert ports[str(taken)] == {
        "free": False,
        "holder": {"pid": os.getpid(), "command": sockets.command_of(os.getpid())},
    }


def test_options_that_the_release_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    seal = tmp_path / "release" / "release.json"
    seal.write_text(json.dumps({"train_options": ["--max-steps"]}))
    options = ["--max-steps", "--learning-rat"]
    assert read(tmp_path, train_options=options)["release"]["unknown_options"] == ["--learning-rat"]
    seal.write_text(json.dumps({}))
    assert read(tmp_path, train_options=options)["release"]["unknown_options"] == []


def test_the_same_machine_is_recognised_whatever_name_it_goes_by() -> None:
    assert probe_hardware.machine() == probe_hardware.machine()
    assert len(probe_hardware.machine()["identity"]) == 16


CAPTURED = Path(__file__).resolve().parents[1] / "captured" / "nvidia_smi_h100_575.xml"


@pytest.mark.parametrize(
    ("script", "count", "error"),
    [
        (f"echo $* | grep -qx -e '-q -x' && cat {CAPTURED}", 2, None),
        ("echo no driver >&2; exit 9", 0, "nvidia-smi: no driver"),
        ("true", 0, "nvidia-smi: its XML can't be read: no element found: line 1, column 0"),
    ],
)
def test_gpus_are_read_by_nvidia_smi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, count: int, error: str | None
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = read(tmp_path, accelerator="cuda")
    assert found["devices"] == {"kind": "cuda", "count": count, "error": error}
    assert (len(found["gpus"]["devices"]), found["gpus"]["error"]) == (count, error)


def test_the_environment_and_the_output_of_the_run_are_what_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NCCL_DEBUG", "its own")
    found = read(tmp_path, environment={"NCCL_IB_TIMEOUT": "22"}, output_dir=str(tmp_path / "out"), root=str(tmp_path))
    assert found["nccl"]["settings"]["NCCL_IB_TIMEOUT"] == {"value": "22", "source": "environment"}
    assert "NCCL_DEBUG" not in found["nccl"]["settings"]
    assert found["room"]["output_dir"]["path"] == str(tmp_path / "out")
    assert found["room"]["root"]["total_bytes"] > 0


def test_it_has_what_the_made_up_ones_of_the_tests_have(tmp_path: Path) -> None:
    """The rules are tested with made-up fingerprints; a key that they have and nodes don't would be dead."""
    plan = plan_of(1)
    real, made_up = read(tmp_path, marker="x", root=str(tmp_path)), fingerprints(plan)["node0"]
    assert real.keys() == made_up.keys()
    for name in (
        "system",
        "gpus",
        "libraries",
        "nccl",
        "room",
        "release",
        "network",
        "infiniband",
        "limits",
        "config",
        "schema",
        "base_model",
        "accelerate",
    ):
        # What an absent release and a torch without CUDA leave out is held against the rest in their own tests.
        assert made_up[name].keys() <= real[name].keys(), name
    assert real["seconds"].keys() == fingerprint.SECONDS.keys() | {"data"}


@pytest.mark.parametrize("accelerator", ["cpu", "cuda"])
def test_it_has_the_shape_that_the_rules_rely_on(tmp_path: Path, accelerator: str) -> None:
    (tmp_path / "data").write_text("x")
    inputs = [{"name": "data", "kind": "path", "path": str(tmp_path / "data")}]
    found = read(
        tmp_path,
        accelerator=accelerator,
        marker="x",
        root=str(tmp_path),
        output_dir=str(tmp_path),
        inputs=inputs,
        ports=[free_port()],
        prepared=str(tmp_path),
    )
    assert FINGERPRINT(found) is None


def test_what_could_not_be_read_has_that_shape_too() -> None:
    """Every probe that fails leaves its sections empty."""
    paths = ("release", "config", "root", "output_dir", "runs", "digest_cache", "marker", "prepared")
    options: dict[str, Any] = {**dict.fromkeys(paths, "/x"), **dict.fromkeys(("address", "head_address"), "::1")}
    options |= {"accelerator": "cuda", "supervisor": "auto"}
    found = fingerprints(plan_of(1))["node0"]
    for probe in [name for name in fingerprint.SECONDS if name != "nccl"] + ["data"]:
        found.update(fingerprint._unread(probe, "no answer", options))
    found["infiniband"]["counters"] = {"seconds": 1, "total": {}, "rising": {}}
    found["nccl"] = {"files": [], "settings": None, "error": "no answer"}
    assert FINGERPRINT(found) is None


def test_a_node_without_release_can_be_read_for_gpus(tmp_path: Path) -> None:
    libraries = read(tmp_path, accelerator="cuda")["libraries"]
    assert set(libraries.values()) == {None}


def test_a_node_without_nvidia_smi_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    devices = probe_hardware.devices("cuda")["devices"]
    assert devices["count"] == 0
    assert "nvidia-smi" in devices["error"]
