# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two configs: which keys differ, and that nothing a node can send makes the controller stumble."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.config_difference import (
    Difference,
    Unreadable,
    differences,
    unified,
)

CONFIG = """\
base_model: /models/llama
learning_rate: 0.001
datasets:
  - path: a.jsonl
    type: alpaca
fsdp_config: {fsdp_version: 2}
"""


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ("learning_rate: 0.001", "learning_rate: 0.01", Difference("learning_rate", "0.001", "0.01")),
        ("learning_rate: 0.001", "learning_rate: '0.001'", Difference("learning_rate", "0.001", '"0.001"')),
        ("learning_rate: 0.001\n", "", Difference("learning_rate", "0.001", "not set")),
        ("a.jsonl", "b.jsonl", Difference("datasets[0].path", '"a.jsonl"', '"b.jsonl"')),
        ("version: 2", "version: 1", Difference("fsdp_config.fsdp_version", "2", "1")),
        ("base_model", "seed: 1\nbase_model", Difference("seed", "not set", "1")),
    ],
)
def test_the_key_that_differs_is_named(old: str, new: str, difference: Difference) -> None:
    assert differences(CONFIG, CONFIG.replace(old, new)) == [difference]


@pytest.mark.parametrize(
    "other",
    [
        CONFIG + "# a comment\n",
        CONFIG.replace("{fsdp_version: 2}", "\n  fsdp_version: 2"),
        CONFIG.replace("a.jsonl", "'a.jsonl'"),
        CONFIG.replace("\n", "\r\n"),
        "\n".join(reversed(yaml.safe_dump(yaml.safe_load(CONFIG), default_flow_style=True, width=9999).splitlines())),
    ],
)
def test_another_form_of_the_same_is_no_difference(other: str) -> None:
    assert other != CONFIG
    assert differences(CONFIG, other) == []


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + chr(ord(name) - 1)] * 10)}]\n" for name in "bcdefghi"
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no mapping of keys but a NoneType"),
        ("- 1", "no mapping of keys but a list"),
        ("a: [", "no valid YAML"),
        ("a: !!python/object/apply:os.system [id]", "no valid YAML"),
        ("a: &a [*a]", "more than 32 levels"),
        ("a: " + "[" * 500 + "]" * 500, "no valid YAML|more than 32 levels"),
        (BOMB, "more than 20000 values"),
    ],
)
def test_what_is_no_config_is_said(text: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        differences(CONFIG, text)


@given(st.text() | st.binary().map(lambda content: content.decode("utf-8", "replace")))
def test_nothing_else_is_raised(text: str) -> None:
    with contextlib.suppress(Unreadable):
        differences(CONFIG, text)
    assert all(sign.isprintable() or sign in "\t\n" for sign in unified(CONFIG, text, "train.yml", ["node1"]))


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
CONFIGS = st.dictionaries(
    st.text(min_size=1, max_size=3),
    st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_size=4,
)


@given(CONFIGS, CONFIGS)
def test_configs_differ_where_their_meanings_do(one: dict[str, Any], other: dict[str, Any]) -> None:
    texts = (yaml.safe_dump(one), yaml.safe_dump(other, default_flow_style=True))
    assert bool(differences(*texts)) == (yaml.safe_load(texts[0]) != yaml.safe_load(texts[1]))


def test_the_difference_as_diff_shows_it() -> None:
    shown = unified("a: 1\nb: 2\n", "a: 1\nb: 3\n", "train.yml", ["node1", "node2"])
    assert shown.splitlines() == [
        "--- train.yml",
        "+++ train.yml on node1, node2",
        "@@ -1,2 +1,2 @@",
        " a: 1",
        "-b: 2",
        "+b: 3",
    ]
