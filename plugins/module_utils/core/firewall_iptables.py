# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sees whether iptables rules of the owner's own filter everything: they are none of the backends, but are named."""

from __future__ import annotations

import re

_POLICY = re.compile(r"^:(?P<chain>\S+) (?P<policy>ACCEPT|DROP) ", re.MULTILINE)
_ALWAYS = re.compile(r"^-A (?P<chain>\S+) -[jg] (?P<target>\S+)", re.MULTILINE)


def filtering(saved: str) -> list[str]:
    """The chains of ``iptables-save -t filter`` that drop whatever no rule accepts, INPUT or OUTPUT or both.

    A rule with a condition, such as fail2ban's or kube-proxy's, filters something particular and does not count.
    """
    policies = {match["chain"]: match["policy"] for match in _POLICY.finditer(saved)}
    targets: dict[str, list[str]] = {}
    for match in _ALWAYS.finditer(saved):
        targets.setdefault(match["chain"], []).append(match["target"])

    def drops(chain: str, seen: frozenset[str]) -> bool:
        return any(
            target in ("DROP", "REJECT") or (target not in seen and drops(target, seen | {target}))
            for target in targets.get(chain, [])
        )

    return [chain for chain in ("INPUT", "OUTPUT") if policies.get(chain) == "DROP" or drops(chain, frozenset({chain}))]
