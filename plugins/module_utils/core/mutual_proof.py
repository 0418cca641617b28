# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How two sides show each other that they know one key: HMAC-SHA256 over both nonces. The key itself never travels."""

from __future__ import annotations

import hashlib
import hmac


def proof(key: str, side: str, name: str, first_nonce: str, second_nonce: str) -> str:
    """What a side shows.

    Args:
        key: what both know.
        side: which of the two shows it, so that one's proof is never the other's.
        name: who or what the connection is about.
        first_nonce: of the side that was dialled.
        second_nonce: of the side that dials.
    """
    message = "\0".join((side, name, first_nonce, second_nonce)).encode()
    return hmac.new(key.encode(), message, hashlib.sha256).hexdigest()
