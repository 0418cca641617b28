# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""port_listener and port_probe as real modules: they reach each other, and what they leave behind is nothing."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.helpers import free_port, run_module, wait_for

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import mesh_protocol as protocol
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import processes
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.processes import Identity


@pytest.fixture
def started() -> Iterator[list[Identity]]:
    """Listeners that a test leaves behind."""
    identities: list[Identity] = []
    yield identities
    processes.signal_all(identities, 9)


def listen(started: list[Identity], **options: Any) -> dict[str, Any]:
    result = run_module("port_listener", {"address": "127.0.0.1", "seconds": 60, **options}, check=True)
    if result["listener"]:
        started.append(Identity(*result["listener"]))
    return result


def close(listener: dict[str, Any]) -> dict[str, Any]:
    return run_module("port_listener", {"close": listener["listener"]})


def probe(*listeners: dict[str, Any], position: int = 9, names: dict[str, Any] | None = None, **options: Any) -> Any:
    """What a node at `position` finds; the listeners stand at 0, 1, 2 ..."""
    address = options.pop("address", "127.0.0.1")
    rows = [[number, address, found["word"], *found["listening"]] for number, found in enumerate(listeners)]
    mesh = json.dumps({"targets": rows, "names": names or {}})
    result = run_module("port_probe", {"mesh": mesh, "position": position, **options}, check=True)
    assert result["changed"] is False
    assert mesh not in json.dumps(result)  # it does not travel back
    return result["mesh"]


def test_they_reach_each_other_until_they_are_closed(started: list[Identity]) -> None:
    pinned = free_port()
    listeners = [listen(started, ports=[pinned]), listen(started), listen(started)]
    assert [(found["changed"], found["refused"]) for found in listeners] == [(False, {})] * 3
    ports = {port for found in listeners for port in found["listening"]}
    assert len(ports) == 4  # two nodes on one machine don't get in each other's way
    assert len({found["word"] for found in listeners}) == 3
    for position in (0, 1):
        found = probe(*listeners, position=position)
        assert (found["reached"], found["failed"], found["ports"]) == (2, {}, {str(pinned): "reached"})
    assert [close(found)["listening"] for found in listeners] == [[]] * 3
    assert not any(processes.is_alive(identity) for identity in started)
    assert probe(*listeners)["failed"] == {"connection refused": "0-2"}


def test_the_listener_goes_by_itself(started: list[Identity]) -> None:
    port = free_port()
    listen(started, ports=[port], seconds=0.5)
    wait_for(lambda: not processes.is_alive(started[0]))
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_the_listener_leaves_nothing_of_the_module_behind(started: list[Identity]) -> None:
    listen(started)  # this returns only if the pipes are let go
    (identity,) = started
    assert os.getsid(identity.pid) != os.getsid(0)
    for descriptor in (0, 1, 2):
        assert os.readlink(f"/proc/{identity.pid}/fd/{descriptor}") == os.devnull


def test_closing_does_not_touch_another_process_with_that_pid() -> None:
    pid, start_time = Identity(*processes.read_process(os.getpid()).identity)  # type: ignore[union-attr]
    assert close({"listener": [pid, start_time - 1]})["listening"] == []


def test_a_taken_port_is_refused_with_its_holder_and_the_others_are_opened(started: list[Identity]) -> None:
    other = free_port()
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        result = listen(started, ports=[taken, other])
    assert result["listening"][1:] == [other]
    assert list(result["refused"]) == [str(taken)]
    assert result["refused"][str(taken)]["holder"]["pid"] == os.getpid()
    assert "in use" in result["refused"][str(taken)]["error"].lower()


def test_an_address_that_does_not_resolve_is_refused(started: list[Identity]) -> None:
    port = free_port()
    result = listen(started, address="head.invalid", ports=[port])
    assert (result["listening"], result["listener"]) == ([], [])
    for refused in ("0", str(port)):
        assert result["refused"][refused]["holder"] is None
        assert result["refused"][refused]["error"]


def test_it_takes_no_port_from_a_run_that_is_just_starting(started: list[Identity], tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "20260101T000000Z-abcd").mkdir()  # made a moment ago, and no supervisor is on record
    result = listen(started, ports=[port], runs=str(tmp_path))
    assert result["refused"][str(port)]["run"] == "20260101T000000Z-abcd"
    assert len(result["listening"]) == 1
    with socket.create_server(("127.0.0.1", port)):
        pass
    assert probe(result)["reached"] == 1


def test_a_run_of_the_past_wants_no_port(started: list[Identity], tmp_path: Path) -> None:
    port = free_port()
    folder = tmp_path / "20260101T000000Z-abcd"
    folder.mkdir()
    (folder / "node.json").write_text('{"node": "node0"}')
    (folder / "state.json").write_text('{"supervisor": [1, 0], "phase": "ended"}')
    assert listen(started, ports=[port], runs=str(tmp_path))["refused"] == {}


def test_it_gives_its_ports_to_a_run_that_starts(started: list[Identity], tmp_path: Path) -> None:
    port = free_port()
    result = listen(started, ports=[port], runs=str(tmp_path))
    assert probe(result)["ports"] == {str(port): "reached"}
    (tmp_path / "20260101T000000Z-abcd").mkdir()
    wait_for(lambda: probe(result)["ports"] == {str(port): "connection refused"})
    assert probe(result)["reached"] == 1


def test_a_stranger_does_not_pass_for_the_node(started: list[Identity]) -> None:
    listener = listen(started)
    assert probe({**listener, "word": "another"})["failed"] == {protocol.STRANGER: "0"}


def test_names_are_resolved_for_the_others_to_compare_with(started: list[Identity]) -> None:
    listener = listen(started, names=["localhost", "127.0.0.1", "nowhere.invalid"])
    names = listener["names"]
    assert set(names) == {"localhost", "nowhere.invalid"}
    assert "127.0.0.1" in names["localhost"]
    assert names["nowhere.invalid"] == []
    found = probe(listener, names=names)["names"]
    assert (found["different"], found["count"]) == ({}, 0)
    found = probe(listener, names={**names, "localhost": ["192.0.2.1"]})["names"]
    assert (found["different"], found["count"]) == ({"localhost": names["localhost"]}, 1)


def test_a_broken_resolver_does_not_make_the_answer_long(started: list[Identity]) -> None:
    names = {f"10.1.0.{number}": ["192.0.2.1"] for number in range(50)}  # each resolves, to something else
    found = probe(names=names)["names"]
    assert found["count"] == 50
    assert len(found["different"]) == 16


def test_a_name_that_does_not_resolve(started: list[Identity]) -> None:
    assert probe(listen(started), address="head.invalid")["failed"] == {protocol.UNRESOLVED: "0"}


def test_it_is_either_listening_or_closing() -> None:
    assert "one of the following is required: address, close" in run_module("port_listener", {})["msg"]
