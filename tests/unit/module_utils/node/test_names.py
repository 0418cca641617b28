# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names resolve as for any program of the node, and a resolver that hangs holds nothing up."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import names


@pytest.mark.parametrize(
    ("text", "yes"),
    [("10.0.0.1", True), ("::1", True), ("fe80::1", True), ("node0", False), ("10.0.0", False), ("", False)],
)
def test_what_is_an_address(text: str, yes: bool) -> None:
    assert names.is_address(text) is yes


def test_names_and_addresses_resolve() -> None:
    assert "127.0.0.1" in names.resolve("localhost")
    assert names.resolve("192.0.2.7") == ["192.0.2.7"]


@pytest.mark.parametrize("name", ["head.invalid", "a" * 64 + ".example.org", ".."])
def test_what_does_not_resolve_has_no_addresses(name: str) -> None:
    assert names.resolve(name) == []


def test_each_address_stands_once_in_the_order_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(2, 1, 6, "", (address, 0)) for address in ("10.0.0.2", "10.0.0.1", "10.0.0.2")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *unused, **unused_too: rows)
    assert names.resolve("x") == ["10.0.0.2", "10.0.0.1"]


def test_all_are_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "resolve", lambda name: [f"10.0.0.{len(name)}"])
    wanted = ["n" * size for size in range(1, 200)]
    assert names.resolve_all(wanted, 30) == {name: [f"10.0.0.{len(name)}"] for name in wanted}
    assert names.resolve_all([], 30) == {}


def test_a_resolver_that_hangs_costs_its_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def resolve(name: str) -> list[str]:
        if name == "hangs":
            release.wait(30)
        return ["10.0.0.1"]

    monkeypatch.setattr(names, "resolve", resolve)
    begun = time.monotonic()
    found = names.resolve_all(["a", "hangs", "b"], 1)
    release.set()
    assert found == {"a": ["10.0.0.1"], "hangs": [], "b": ["10.0.0.1"]}
    assert time.monotonic() - begun < 20
