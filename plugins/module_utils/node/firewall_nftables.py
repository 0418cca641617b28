# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens the owner's own nftables ruleset on this node."""

from __future__ import annotations

import glob
import shutil
import tempfile

from ..core import firewall_nftables as rules
from ..core.firewall_opening import Opening
from . import commands
from .firewall_tools import DROP_INS, RECORD, SECONDS, environment, has, read, run, run_json, search_path, store


class Nftables:
    """A ruleset of the owner's own."""

    name = "nftables"
    SCRIPTS = f"{RECORD}/firewall-{{}}.nft"
    DROP_IN = f"{DROP_INS}/gpufleet.conf"
    RULESET = "nft list ruleset"

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self.ruleset = self._read()

    def active(self) -> bool:
        return bool(self.ruleset.filtering(self._opening))

    def found(self) -> dict[str, str]:
        lines = self.ruleset.found(self._opening)
        return {self.RULESET: "".join(f"{line}\n" for line in lines), **self._stored()}

    def wanted(self, opening: Opening | None) -> dict[str, str]:
        if not opening:
            return {}
        lines = rules.wanted(self.ruleset.filtering(opening), self._hooks(), opening)
        return {self.RULESET: "".join(f"{line}\n" for line in lines), **self._to_store(opening)}

    def apply(self, opening: Opening | None) -> None:
        script, files = self.ruleset.removal(), dict.fromkeys(self._stored(), "")
        if opening:
            script += rules.addition(self.ruleset.filtering(opening), self._hooks(), opening)
            files.update(self._to_store(opening))
        if script:
            # One transaction: there is no moment in which something is half open.
            with tempfile.NamedTemporaryFile("w", suffix=".nft") as stream:
                stream.write(script)
                stream.flush()
                run(["nft", "-f", stream.name])
        before = read(self.DROP_IN)
        store(files)
        if before != read(self.DROP_IN):
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

    def _stored(self) -> dict[str, str]:
        """Our own files as they are; the owner's nftables.conf is never one of them."""
        return {path: read(path) for path in [*sorted(glob.glob(self.SCRIPTS.format("*"))), self.DROP_IN]}

    def _to_store(self, opening: Opening) -> dict[str, str]:
        """Our own files as they have to be: a script for each table, so that one that is gone spoils no other."""
        title = "# Kept by gpufleet.axolotl: opens this node's firewall to its peers.\n"
        tables: dict[tuple[str, str], list[rules.Chain]] = {}
        for chain in self.ruleset.filtering(opening):
            tables.setdefault((chain.family, chain.table), []).append(chain)
        scripts = {
            self.SCRIPTS.format(number): title + rules.addition(chains, self._hooks(), opening)
            for number, chains in enumerate(tables.values(), start=1)
        }
        if not self.outlives_reboot():
            return scripts
        # After the owner's rules at every start and reload; the dash: our failure is not to be the owner's.
        nft = shutil.which("nft", path=search_path())
        lines = [f"{when}=-{nft} -f {script}\n" for script in scripts for when in ("ExecStartPost", "ExecReload")]
        return {**scripts, self.DROP_IN: f"{title}[Service]\n{''.join(lines)}"}

    @staticmethod
    def _read() -> rules.Ruleset:
        return rules.Ruleset(run_json(["nft", "-j", "list", "ruleset"]))
