# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What values settings take: each function turns an inventory's value into a typed one, or raises InvalidValue."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import doca_repository
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.release_name import ReleaseNameError, full_commit


class InvalidValue(ValueError):
    """A value that a setting can't take; the message says what is expected."""


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidValue("a text")
    return str(value)


def filled(value: Any) -> str:
    if not text(value).strip():
        raise InvalidValue("a text that is not empty")
    return text(value)


def absolute_path(value: Any) -> str:
    """Ansible expands $ in paths and systemd has ideas of its own about quotes: such a path would become another."""
    path = text(value)
    odd = re.search(r"""[\s$\\'"]|//|/\.\.(?:/|$)""", path)
    if not path.startswith("/") or not path.strip("/") or odd:
        raise InvalidValue("an absolute path below /, without spaces, quotes, backslashes, $, // and ..")
    return text(value).rstrip("/")


def full_sha(value: Any) -> str:
    try:
        return full_commit(text(value))
    except ReleaseNameError:
        raise InvalidValue(
            "a full commit SHA (40 hex digits): a branch or a short SHA can mean another commit tomorrow"
        ) from None


def account(value: Any) -> str:
    """The name of an account without rights, as useradd takes it; empty for the one that connects."""
    if not re.fullmatch(r"(?:[a-z_][a-z0-9_-]{0,31})?", text(value)) or value == "root":
        raise InvalidValue("the name of an account (a-z, 0-9, _ and -, at most 32 characters) that is not root")
    return str(value)


def one_of(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in choices:
            raise InvalidValue(f"one of {', '.join(choices)}")
        return str(value)

    return parse


def whole(lowest: int, highest: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        # -e gives strings; true is an int to Python, but no number to anybody
        if isinstance(value, str):
            is_number = bool(re.fullmatch(r"\d{1,9}", value))
        else:
            is_number = isinstance(value, int) and not isinstance(value, bool)
        if not is_number or not lowest <= int(value) <= highest:
            raise InvalidValue(f"a whole number from {lowest} to {highest}")
        return int(value)

    return parse


def flag(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false", "yes", "no"):
        return value.lower() in ("true", "yes")
    if not isinstance(value, bool):
        raise InvalidValue("true or false")
    return value


def text_list(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise InvalidValue("a list of texts")
    return [str(item) for item in value]


def mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidValue("a mapping of names to values")
    return {str(key): item for key, item in value.items()}


def environment(value: Any) -> dict[str, str]:
    variables = mapping(value)
    for name, item in variables.items():
        if not re.fullmatch(r"[A-Za-z_]\w*", name) or isinstance(item, (dict, list)) or item is None:
            raise InvalidValue(f"a mapping of variable names to texts ({name} is none)")
        if "\0" in str(item):
            raise InvalidValue(f"texts without NUL ({name} has one)")
    return {name: str(item) for name, item in variables.items()}


def interface(value: Any) -> str:
    """IFNAMSIZ of include/uapi/linux/if.h is 16, with the closing NUL; / and spaces are refused by the kernel."""
    if not isinstance(value, str) or not re.fullmatch(r"[^\s/:,=^]{1,15}", value):
        raise InvalidValue("the name of one network interface")
    return value


def hcas(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(
        isinstance(item, str) and re.fullmatch(r"[^\s/:,=^]+(:\d{1,3})?", item) for item in value
    ):
        raise InvalidValue("a list of adapters such as mlx5_0")
    return [str(item) for item in value]


def networks(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise InvalidValue("a list of networks such as 192.0.2.0/24")
    try:
        return [str(ipaddress.ip_network(text(item))) for item in value]
    except ValueError as error:
        raise InvalidValue(f"a list of networks such as 192.0.2.0/24 ({error})") from None


def peer_networks(value: Any) -> list[str]:
    """A network wider than /8 is no data network but a mistake that would open a node to the world."""
    found = networks(value)
    for item in found:
        if ipaddress.ip_network(item).prefixlen < 8 or "%" in item:
            raise InvalidValue(f"a list of networks such as 192.0.2.0/24 (not {item}: wider than /8, or with a zone)")
    return found


def doca_version(value: Any) -> str:
    version = text(value)
    if version:
        try:
            doca_repository.parse_version(version)
        except doca_repository.DocaError as error:
            raise InvalidValue(str(error)) from None
    return version
