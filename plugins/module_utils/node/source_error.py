# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why training files did not come from their source."""

from __future__ import annotations


class SourceError(Exception):
    """The message names the source, and says what was expected and found."""
