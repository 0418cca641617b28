# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test hosts on this machine: containers that look like servers to Ansible. BED is this checkout's."""

from __future__ import annotations

from pathlib import Path

from .bed import Bed

PROJECT = Path(__file__).resolve().parents[2]
BED = Bed(PROJECT / ".hosts", PROJECT / ".cache" / "hosts")
