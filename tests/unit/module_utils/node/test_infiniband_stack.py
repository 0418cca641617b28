# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The installed stack is told by its own tool, where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import infiniband_stack


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(infiniband_stack, "TOOL_PATH", str(tmp_path))
    return tmp_path


def install(tools: Path, script: str) -> None:
    tool = tools / "ofed_info"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)


def test_without_the_tool_it_is_the_distributions(tools: Path) -> None:
    assert infiniband_stack.stack() == {"name": "inbox", "version": None, "error": None}


def test_nvidias_has_a_version(tools: Path) -> None:
    install(tools, '[ "$*" = -s ] && echo OFED-internal-25.01-0.6.0:')
    assert infiniband_stack.stack() == {"name": "doca", "version": "25.01-0.6.0", "error": None}


def test_a_tool_that_fails_or_hangs_says_so(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tools, "echo broken >&2; exit 1")
    assert infiniband_stack.stack() == {"name": None, "version": None, "error": "ofed_info: broken"}
    monkeypatch.setattr(infiniband_stack, "OFED_INFO_TIMEOUT", 1.0)
    install(tools, "exec sleep 100")
    assert infiniband_stack.stack()["error"] == "ofed_info: no answer within 1 s"
