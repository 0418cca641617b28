# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens the owner's own nftables ruleset on this node."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

from ..core import firewall_nftables as rules
from ..core.firewall_opening import Opening
from . import commands
from .firewall_tools import DROP_INS, RECORD, SECONDS, environment, has, read, run, run_json, search_path, store


class Nftables:
    """A ruleset of the owner's own."""

    name = "nftables"
    SCRIPT = f"{RECORD}/firewall.nft"
    DROP_IN = f"{DROP_INS}/gpufleet.conf"
    RULESET = "nft list ruleset"

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self.ruleset = self._read()

    def active(self) -> bool:
        return bool(self.ruleset.filtering(self._opening))

    def found(self) -> dict[str, str]:
        stored = {path: read(path) for path in (self.SCRIPT, self.DROP_IN)}
        return {self.RULESET: "".join(f"{line}\n" for line in self.ruleset.found(self._opening)), **stored}

    def wanted(self, opening: Opening | None) -> dict[str, str]:
        if not opening:
            return {self.RULESET: "", self.SCRIPT: "", self.DROP_IN: ""}
        lines = rules.wanted(self.ruleset.filtering(opening), self._hooks(), opening)
        return {self.RULESET: "".join(f"{line}\n" for line in lines), **self._stored(opening)}

    def apply(self, opening: Opening | None) -> None:
        script = self.ruleset.removal()
        stored = {self.SCRIPT: "", self.DROP_IN: ""}
        if opening:
            script += rules.addition(self.ruleset.filtering(opening), self._hooks(), opening)
            stored = self._stored(opening)
        if script:
            # One transaction: there is no moment in which something is half open.
            with tempfile.NamedTemporaryFile("w", suffix=".nft") as stream:
                stream.write(script)
                stream.flush()
                run(["nft", "-f", stream.name])
        before = read(self.DROP_IN)
        store(stored)
        if before != stored[self.DROP_IN] and has("systemctl"):
            run(["systemctl", "daemon-reload"])
        self.ruleset = self._read()

    def outlives_reboot(self) -> bool:
        """Whether nftables.service loads the owner's rules: what we add follows each of its loads."""
        if not has("systemctl"):
            return False
        argv = ["systemctl", "show", "--property=UnitFileState,ActiveState", "--value", "nftables.service"]
        return bool({"enabled", "active"} & set(commands.run(argv, SECONDS, environment()).stdout.split()))

    def _hooks(self) -> dict[rules.Chain, str]:
        return {chain: str(base["hook"]) for chain, base in self.ruleset.bases.items()}

    def _stored(self, opening: Opening) -> dict[str, str]:
        """Our own files; the owner's nftables.conf stays as it is."""
        chains = self.ruleset.filtering(opening)
        title = "# Kept by gpufleet.axolotl: opens this node's firewall to its peers.\n"
        nft = shutil.which("nft", path=search_path())
        # After the owner's rules at every start and reload; the dash: our failure is not to be the owner's.
        drop_in = f"[Service]\nExecStartPost=-{nft} -f {self.SCRIPT}\nExecReload=-{nft} -f {self.SCRIPT}\n"
        return {
            self.SCRIPT: title + rules.addition(chains, self._hooks(), opening),
            self.DROP_IN: title + drop_in if self.outlives_reboot() else "",
        }

    @staticmethod
    def _read() -> rules.Ruleset:
        """Table by table, so that a long table of somebody else's does not cut ours short."""
        objects: list[Mapping[str, Any]] = []
        for item in run_json(["nft", "-j", "list", "tables"]):
            table = item.get("table")
            if table and table["family"] in ("ip", "ip6", "inet") and table["name"] != rules.FIREWALLD:
                objects += run_json(["nft", "-j", "list", "table", table["family"], table["name"]])
        return rules.Ruleset(item for item in objects if "metainfo" not in item and "table" not in item)
