# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps secrets out of whatever leaves a node."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API[_-]?KEY|CREDENTIAL|PRIVATE[_-]?KEY", re.IGNORECASE)
"""Names of variables and config keys that hold secrets by common usage (HF_TOKEN, WANDB_API_KEY, hub_token ...)."""

MASK = "********"
_SHORTEST = 4
"""Shorter values are left: they would blot out ordinary words, and a secret that short protects nothing."""

# Hugging Face and OpenAI-style tokens and keys in URLs, wherever they came from
_TOKEN = re.compile(r"\b(?:hf|sk|ghp|github_pat)[_-][A-Za-z0-9_-]{16,}|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
# What one of the two patterns around it needs, and most texts don't have
_SUSPICIOUS = re.compile(rf"(?:hf|sk|ghp|github_pat)[_-]|@|{SECRET_NAME.pattern}", re.IGNORECASE)
# NAME=value, "name": "value", --name value. The bounds keep the search linear in the length of a line.
_ASSIGNMENT = re.compile(
    r"(?<![\w.-])(?P<name>(?:(?P<option>--)|[\w.-]{0,64}?)(?:[\w.-]{0,64}?)(?:"
    + SECRET_NAME.pattern
    + r")[\w.-]{0,64}['\"]?(?:\s{0,8}[:=](?!=)\s{0,8}|(?(option)\s{1,8}|(?!)))['\"]?)(?P<value>[^\s'\",}]+)",
    re.IGNORECASE,
)


def is_secret_name(name: str) -> bool:
    """Whether a variable's name says that its value is a secret.

    ``tokenizer_type`` or ``pad_token`` are none: what matters is a token by itself, not its plural or a compound
    of the tokenizer.
    """
    return bool(SECRET_NAME.search(name)) and not _HARMLESS.search(name)


_HARMLESS = re.compile(
    r"tokeniz|tokens|tiktoken|(?:pad|bos|eos|unk|sep|cls|mask)_token|token_(?:id|type)", re.IGNORECASE
)


def mask(text: str, secrets: Iterable[str]) -> str:
    """Replace the given values, and what looks like a credential, by MASK."""
    for value in sorted({value for value in secrets if len(value) >= _SHORTEST}, key=len, reverse=True):
        text = text.replace(value, MASK)
    if not _SUSPICIOUS.search(text):
        return text
    text = _TOKEN.sub(MASK, text)
    return _ASSIGNMENT.sub(_mask_assignment, text)


def mask_all(value: Any, secrets: Iterable[str]) -> Any:
    """A value as JSON has it, in which every text is masked; what holds nothing to mask is handed on as it is.

    A thousand nodes say much the same, so each text is looked at once.
    """
    known: dict[str, str] = {}
    values = sorted(secrets)

    def text(item: str) -> str:
        if item not in known:
            known[item] = mask(item, values)
        return known[item]

    def of(item: Any) -> Any:
        # The abstract kind last: asking for it takes ten times as long.
        if isinstance(item, str):
            return text(item)
        if isinstance(item, (list, tuple)):
            changed = masked(enumerate(item))
            return [changed.get(position, old) for position, old in enumerate(item)] if changed else item
        if isinstance(item, (dict, Mapping)):
            changed = masked(item.items())
            return {**item, **changed} if changed else item
        return item

    def masked(items: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
        """Those that are no longer the same; most are texts seen before, or plain, and cost no call."""
        changed = {}
        for key, old in items:
            kind = type(old)
            if kind in _PLAIN:
                continue
            new = (known.get(old) or text(old)) if kind is str else of(old)
            if new is not old and new != old:
                changed[key] = new
        return changed

    return of(value)


_PLAIN = {int, float, bool, type(None)}
_ENTRY = re.compile(r"^(?P<name> *(?:- +)*(?P<key>[\w.-]+|'[^'\n]*'|\"[^\"\n]*\") *:)(?P<value> +\S.*|)$")
_BARE = re.compile(rf"(?<=[\s:,\[]){re.escape(MASK)}(?=[\s,}}\]]|$)")


def mask_document(text: str) -> str:
    """A YAML text in which the values of secrets are masked, with all of their lines; it stays valid YAML."""
    lines: list[str] = []
    inside: int | None = None
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip(" "))
        if inside is not None and (indent > inside or not line.strip()):
            continue
        entry = _ENTRY.match(line)
        secret = entry and is_secret_name(entry["key"])
        inside = entry.start("key") if entry and secret else None
        lines.append(f'{entry["name"]} "{MASK}"' if entry and secret else line)
    # Unquoted, an asterisk would be the alias of an anchor.
    return _BARE.sub(f'"{MASK}"', mask("\n".join(lines), ()))


def _mask_assignment(match: re.Match[str]) -> str:
    return match["name"] + MASK if is_secret_name(match["name"]) else match.group()
