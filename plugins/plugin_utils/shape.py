# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shapes of JSON values, and where a value departs from one.

A shape is either the kinds that a value may be of, or a function from a value to the path at which it does not fit:
empty for the value itself, None where it fits.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

Kinds = frozenset[type]
Check = Callable[[Any], str | None]
Shape = Kinds | Check

TEXT: Kinds = frozenset({str})
FLAG: Kinds = frozenset({bool})
NOTHING: Kinds = frozenset({type(None)})
TEXT_OR_NONE: Kinds = TEXT | NOTHING
FLAG_OR_NONE: Kinds = FLAG | NOTHING

MOST = 1 << 63
"""Below which a number stays; what counts bytes or nanoseconds fits, and arithmetic with it can't overflow."""


def count(value: Any) -> str | None:
    """A whole number that counts something."""
    return quantity(value) if isinstance(value, int) else ""


def quantity(value: Any) -> str | None:
    """A number that measures something."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return None if is_number and 0 <= value < MOST else ""


def address(value: Any) -> str | None:
    """An IP address."""
    if not isinstance(value, str):
        return ""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return ""
    return None


def interface_address(value: Any) -> str | None:
    """An IP address with the length of its prefix."""
    if not isinstance(value, str):
        return ""
    found, _slash, prefix = value.partition("/")
    return address(found) if prefix.isdecimal() else ""


def pair(value: Any) -> str | None:
    """A list of two texts."""
    fits = isinstance(value, list) and len(value) == 2 and all(isinstance(item, str) for item in value)
    return None if fits else ""


def one_of(*values: Any) -> Check:
    """One of a few values."""
    return lambda value: None if value in values else ""


def optional(shape: Shape) -> Check:
    """What may be null."""
    fits = _check(shape)
    return lambda value: None if value is None else fits(value)


def either(first: Shape, second: Shape) -> Check:
    """One shape, or else another; where neither fits, what the second lacks counts."""
    one, other = _check(first), _check(second)
    return lambda value: None if one(value) is None else other(value)


def record(**shapes: Shape) -> Check:
    """A mapping with at least these keys."""
    # Most values are of a plain kind: looked at here, each of a thousand costs no call.
    plain = [(name, shape) for name, shape in shapes.items() if isinstance(shape, frozenset)]
    checks = [(name, shape) for name, shape in shapes.items() if not isinstance(shape, frozenset)]

    def fits(value: Any) -> str | None:
        if not isinstance(value, dict):
            return ""
        for name, kinds in plain:
            if name not in value or not (type(value[name]) in kinds or _is(value[name], kinds)):
                return f".{name}"
        for name, check in checks:
            where = check(value[name]) if name in value else ""
            if where is not None:
                return f".{name}{where}"
        return None

    return fits


def mapping(shape: Shape, key: Callable[[str], bool] = lambda _name: True) -> Check:
    """A mapping from texts, of which each passes `key`, to values of one shape."""
    check = _check(shape)

    def fits(value: Any) -> str | None:
        if not isinstance(value, dict):
            return ""
        for name, item in value.items():
            where = check(item) if isinstance(name, str) and key(name) else ""
            if where is not None:
                return f".{str(name)[:80]}{where}"
        return None

    return fits


def sequence(shape: Shape) -> Check:
    """A list of values of one shape."""
    check = _check(shape)

    def fits(value: Any) -> str | None:
        if not isinstance(value, list):
            return ""
        for position, item in enumerate(value):
            where = check(item)
            if where is not None:
                return f"[{position}]{where}"
        return None

    return fits


def _check(shape: Shape) -> Check:
    if not isinstance(shape, frozenset):
        return shape
    kinds = shape
    return lambda value: None if type(value) in kinds or _is(value, kinds) else ""


def _is(value: Any, kinds: Kinds) -> bool:
    """Ansible marks what comes from a node by types of its own, which are derived from the plain ones."""
    return str in kinds and isinstance(value, str)
