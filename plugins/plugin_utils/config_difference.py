# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which keys of two Axolotl configs differ. A node's config is untrusted text: it never raises, whatever it is."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from .findings import names

MOST_VALUES = 20_000
"""Values of one config. A real one has some hundred; a few lines of nested YAML aliases can stand for billions."""
DEEPEST = 32
"""Levels of one config. A real one has five; an alias can contain itself."""
ABSENT = "not set"


class Difference(NamedTuple):
    """One key with its value in both configs, as YAML's flow form, or ABSENT."""

    key: str
    expected: str
    found: str


class Unreadable(Exception):
    """A text that is no config; the message says why."""


def differences(expected: str, found: str) -> list[Difference]:
    """The keys that differ, in the order of the first config; none where only comments or the form do.

    Args:
        expected: YAML text of the config as it should be.
        found: YAML text of another one.

    Raises:
        Unreadable: `found` is no YAML mapping of a sensible size.
    """
    wanted, present = _flattened(expected), _flattened(found)
    keys = [*wanted, *(key for key in present if key not in wanted)]
    return [
        Difference(key, wanted.get(key, ABSENT), present.get(key, ABSENT))
        for key in keys
        if wanted.get(key, ABSENT) != present.get(key, ABSENT)
    ]


def unified(expected: str, found: str, name: str, nodes: Sequence[str]) -> str:
    """The difference of two texts as `diff -u` shows it, less what a terminal would take for commands."""
    there = f"{name} on {names(nodes)}"
    lines = difflib.unified_diff(expected.splitlines(), found.splitlines(), name, there, lineterm="")
    return "\n".join("".join(sign if sign.isprintable() or sign == "\t" else "?" for sign in line) for line in lines)


def _flattened(text: str) -> dict[str, str]:
    try:
        config = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Unreadable(f"no valid YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(config, Mapping):
        raise Unreadable(f"no mapping of keys but a {type(config).__name__}")
    flat: dict[str, str] = {}
    for key, value in _leaves("", config, DEEPEST):
        flat[key] = value
        if len(flat) > MOST_VALUES:
            raise Unreadable(f"more than {MOST_VALUES} values")
    return flat


def _leaves(above: str, value: Any, levels: int) -> Iterator[tuple[str, str]]:
    """Dotted names with their values; a list counts by position, an empty mapping or list as a value."""
    if isinstance(value, Mapping) and value:
        items = [(f"{above}.{key}" if above else str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and value:
        items = [(f"{above}[{position}]", item) for position, item in enumerate(value)]
    else:
        yield above, json.dumps(value, default=str, ensure_ascii=False)
        return
    if not levels:
        raise Unreadable(f"more than {DEEPEST} levels")
    for name, item in items:
        yield from _leaves(name, item, levels - 1)
