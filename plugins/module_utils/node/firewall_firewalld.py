# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens firewalld on this node."""

from __future__ import annotations

import tempfile

from ..core import firewall_firewalld as rules
from ..core.firewall_opening import Opening
from . import commands
from .firewall_tools import SECONDS, FirewallError, environment, read, run, store


class Firewalld:
    """firewalld, by its permanent files, and by firewall-cmd for what it holds in memory."""

    name = "firewalld"
    MEMORY = "firewalld's memory"

    def __init__(self) -> None:
        self._active = commands.run(["firewall-cmd", "--state"], SECONDS, environment()).rc == 0
        self._memory = self._read() if self._active else rules.NOTHING

    def active(self) -> bool:
        return self._active

    def found(self) -> dict[str, str]:
        stored = {path: read(path) for path in rules.files(None, True)}
        return {**stored, self.MEMORY: rules.text(self._memory)}

    def wanted(self, opening: Opening | None) -> dict[str, str]:
        outgoing = self._memory.outgoing
        memory = rules.runtime(opening, outgoing) if self._active else rules.NOTHING
        if rules.needs_reload(self._memory, memory):
            self._see_that_a_reload_loses_nothing()
        return {**rules.files(opening, outgoing), self.MEMORY: rules.text(memory)}

    def apply(self, opening: Opening | None) -> None:
        wanted = rules.runtime(opening, self._memory.outgoing)
        reload = self._active and rules.needs_reload(self._memory, wanted)
        paths = rules.files(opening, self._memory.outgoing)
        before = {path: read(path) for path in paths}
        store(paths)
        if self._active:
            try:
                self._cmd("--check-config")
            except FirewallError:
                store(before)
                raise
            if reload:
                self._cmd("--reload")
            else:
                self._change(wanted)
            self._memory = self._read()

    def _change(self, wanted: rules.Runtime) -> None:
        for option, remove, add in rules.changes(self._memory, wanted):
            if option.startswith("--ipset"):
                # Removed first: firewalld refuses an entry that overlaps one that is there.
                for verb, entries in (("remove", remove), ("add", add)):
                    if entries:
                        with tempfile.NamedTemporaryFile("w") as stream:
                            stream.write("".join(f"{entry}\n" for entry in entries))
                            stream.flush()
                            self._cmd(option, f"--{verb}-entries-from-file={stream.name}")
            else:
                if add:
                    self._cmd(option, *[f"--add-rich-rule={rule}" for rule in add])
                if remove:
                    self._cmd(option, *[f"--remove-rich-rule={rule}" for rule in remove])

    def _see_that_a_reload_loses_nothing(self) -> None:
        lost = []
        for listing in ("--list-all-zones", "--list-all-policies"):
            lost += rules.only_in_memory(self._cmd(listing), self._cmd("--permanent", listing))
        for listing in ("--get-all-chains", "--get-all-rules", "--get-all-passthroughs"):
            if self._cmd("--direct", listing) != self._cmd("--permanent", "--direct", listing):
                lost.append("direct rules")
                break
        if lost:
            raise FirewallError(
                "a set of peers comes into firewalld by a reload alone, which would undo what was changed in memory "
                f"only: expected none, found such changes in {', '.join(lost)}. Keep them with "
                "`firewall-cmd --runtime-to-permanent`, or drop them with `firewall-cmd --reload`, and provision again."
            )

    def _read(self) -> rules.Runtime:
        policies = commands.run(["firewall-cmd", "--list-all-policies"], SECONDS, environment())
        if policies.rc != 0:
            version = commands.run(["firewall-cmd", "--version"], SECONDS, environment()).stdout.strip()
            raise FirewallError(f"expected firewalld 0.9 or newer, which has policies, and found {version}: update it")
        entries = {}
        for name in rules.SETS.values():
            result = commands.run(["firewall-cmd", f"--ipset={name}", "--get-entries"], SECONDS, environment())
            if result.rc == 0:
                entries[name] = result.stdout
        return rules.read_runtime(policies.stdout, entries)

    @staticmethod
    def _cmd(*options: str) -> str:
        return run(["firewall-cmd", *options])
