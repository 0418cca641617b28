# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both lines of the mesh are understood by the other side, and nothing else passes for one of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import mesh_protocol as protocol
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.mesh_protocol import Greeting, Request


@pytest.mark.parametrize("request_", [Request("0123abcd", True), Request("0123abcd", False)])
def test_a_request_comes_back(request_: Request) -> None:
    line = protocol.request_line(request_)
    assert line.endswith(b"\n")
    assert len(line) < protocol.MAX_LINE
    assert protocol.parse_request(line) == request_


def test_a_greeting_comes_back() -> None:
    line = protocol.greeting_line(Greeting(1764093600.123456, 9000))
    assert line.endswith(b"\n")
    assert protocol.parse_greeting(line) == Greeting(1764093600.123456, 9000)


@pytest.mark.parametrize("line", [b"", b"\n", b"word bulk more", b"word other", b"GET / HTTP/1.1"])
def test_what_is_no_request(line: bytes) -> None:
    assert protocol.parse_request(line) is None


@pytest.mark.parametrize(
    "line", [b"", b"SSH-2.0-OpenSSH_9.6", b"1.5", b"1.5 x", b"nan 1500", b"inf 1500", b"1.5 -1", b"1 2 3", b"\xff 1"]
)
def test_what_is_no_greeting(line: bytes) -> None:
    assert protocol.parse_greeting(line) is None


@given(st.binary(max_size=300))
def test_nothing_that_a_stranger_sends_makes_them_fail(line: bytes) -> None:
    protocol.parse_request(line)
    protocol.parse_greeting(line)
