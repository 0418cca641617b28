# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which settings NCCL comes to have from its environment and its files, read as NCCL reads them.

The source is src/misc/param.cc of NCCL 2.18 to 2.30: a file sets what is not set yet, so the environment wins over the
user's file, that one over the machine's, and within a file the first line of a name over the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .masking import MASK, is_secret_name, mask

ETC = "/etc/nccl.conf"
HOME_FROM_ENVIRONMENT = (2, 30)
"""The first NCCL whose ~ is $HOME, and which takes away a carriage return; until then ~ is the account's home."""
ENVIRONMENT = "environment"
MAX_VALUE = 200
"""Characters kept of a value; lists of interfaces and adapters are far shorter."""
MAX_SETTINGS = 200
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def paths(environment: Mapping[str, str], account_home: str | None, version: tuple[int, ...] = ()) -> list[str]:
    """The files that NCCL reads, in order of precedence.

    Args:
        environment: of the process that trains.
        account_home: the home of its account in the password database, None where there is none.
        version: of NCCL; empty where it is not known, which counts as one before 2.30.
    """
    named = environment.get("NCCL_CONF_FILE", "")
    if named:
        return [named, ETC]
    home = environment.get("HOME") if version >= HOME_FROM_ENVIRONMENT else account_home
    return [f"{home}/.nccl.conf", ETC] if home is not None else [ETC]


def parse(text: str, version: tuple[int, ...] = ()) -> list[tuple[str, str]]:
    """The lines NAME=value of a file; blanks belong to the name or the value, and a # counts in the first column."""
    found = []
    for line in text.split("\n"):
        if version >= HOME_FROM_ENVIRONMENT and line.endswith("\r"):
            line = line[:-1]
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.append((name, value))
    return found


def effective(
    environment: Mapping[str, str], files: Sequence[tuple[str, str | None]], version: tuple[int, ...] = ()
) -> dict[str, dict[str, Any]]:
    """What NCCL comes to have.

    Args:
        environment: of the process that trains.
        files: path and content in order of precedence; None for one that is not there.
        version: of NCCL.

    Returns:
        name to value and source (``environment`` or the file's path), by name. Files may set any variable, so what they
        set beside NCCL's own is here too. A secret is masked, and a value is cut to MAX_VALUE characters.
    """
    found = {name: (value, ENVIRONMENT) for name, value in environment.items() if name.startswith("NCCL_")}
    for path, text in files:
        for name, value in parse(text or "", version):
            if name not in environment and _NAME.fullmatch(name):
                found.setdefault(name, (value, path))
    kept = sorted(found.items())[:MAX_SETTINGS]
    return {name: {"value": _shown(name, value), "source": source} for name, (value, source) in kept}


def _shown(name: str, value: str) -> str:
    if is_secret_name(name):
        return MASK
    # A carriage return or an escape would be invisible, though it makes the value another one.
    printable = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in value[:MAX_VALUE])
    return mask(printable, ())[:MAX_VALUE]
