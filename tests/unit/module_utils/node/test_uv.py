# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""uv is found in the wanted version alone, runs with the site's pip settings, and fills its cache once."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from unit.releases import make_uv

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import uv as uv_module
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.uv import find_uv, only_one, uv_settings


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither beside the interpreter nor on PATH is there a uv."""
    monkeypatch.setattr(uv_module.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "")


@pytest.mark.usefixtures("nowhere")
def test_the_given_folder_is_looked_at_first(tmp_path: Path) -> None:
    uv = make_uv(tmp_path / "tools")
    assert find_uv("9.9.9", str(tmp_path / "tools")) == str(uv)
    assert find_uv("", str(tmp_path / "tools")) == str(uv)


@pytest.mark.usefixtures("nowhere")
def test_another_version_is_not_good_enough(tmp_path: Path) -> None:
    make_uv(tmp_path / "tools")
    assert find_uv("9.9.8", str(tmp_path / "tools")) is None
    assert find_uv("9.9.9", str(tmp_path / "absent")) is None


@pytest.mark.usefixtures("nowhere")
def test_path_is_looked_at_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv = make_uv(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_uv("9.9.9") == str(uv)


def test_pips_settings_reach_uv_and_uvs_own_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip.example/simple")
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    assert uv_settings("uv", "/srv/cache")["UV_DEFAULT_INDEX"] == "https://pip.example/simple"
    assert uv_settings("uv", "/srv/cache")["UV_CACHE_DIR"] == "/srv/cache"
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://uv.example/simple")
    assert uv_settings("uv")["UV_DEFAULT_INDEX"] == "https://uv.example/simple"


@pytest.mark.usefixtures("nowhere")
def test_the_pip_beside_uv_tells_where_there_is_no_other(tmp_path: Path) -> None:
    pip = tmp_path / "tools" / "pip"
    pip.parent.mkdir()
    pip.write_text("#!/bin/sh\necho \"global.index-url='https://pip.example/simple'\"\n")
    pip.chmod(0o755)
    assert uv_settings(str(pip.with_name("uv")))["UV_DEFAULT_INDEX"] == "https://pip.example/simple"


def test_one_fills_the_cache_while_the_other_waits(tmp_path: Path) -> None:
    uv = str(make_uv(tmp_path / "bin"))
    inside: list[int] = []
    most: list[int] = []

    def fill() -> None:
        with only_one(uv, {}):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.2)
            inside.pop()

    threads = [threading.Thread(target=fill) for _unused in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]
    assert list((tmp_path / "bin" / "cache").iterdir()) == []


def test_a_cache_that_can_not_be_locked_stops_nobody() -> None:
    with only_one("/nonexistent/uv", {}):
        pass
