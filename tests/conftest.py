# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tests must not run beside each other: those that share the hosts, and those that share the local nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = {Path(__file__).parent / name: name for name in ("hosts", "integration")}


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if group := SHARED.get(item.path.parent):
            item.add_marker(pytest.mark.xdist_group(group))
