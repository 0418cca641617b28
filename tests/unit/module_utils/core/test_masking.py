# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets are masked wherever they may stand; what only looks like one by its name is left."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.masking import (
    MASK,
    is_secret_name,
    mask,
    mask_all,
    mask_document,
)

SECRET = "s3cr3tValue42"


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "hub_token",
        "WANDB_API_KEY",
        "wandb_apikey",
        "AWS_SECRET_ACCESS_KEY",
        "DB_PASSWORD",
        "db_passwd",
        "GOOGLE_CREDENTIALS",
        "ssh_private_key",
        "COMET_API_KEY",
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer_type",
        "tokenizer_config",
        "TOKENIZERS_PARALLELISM",
        "special_tokens",
        "pad_token",
        "bos_token",
        "eos_token",
        "unk_token",
        "tokens/total",
        "num_tokens",
        "token_type_ids",
        "pad_token_id",
        "learning_rate",
        "PATH",
        "KEYBOARD",
    ],
)
def test_names_of_no_secrets(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "text",
    [
        f"HF_TOKEN={SECRET}",
        f"export HF_TOKEN='{SECRET}'",
        f'"HF_TOKEN": "{SECRET}"',
        f"hub_token: {SECRET}",
        f"'wandb_api_key': '{SECRET}'",
        f"--hub-token={SECRET} --max-steps=2",
        f"WANDB_API_KEY = {SECRET}",
        f"https://user:{SECRET}@example.org/axolotl.git",
        f"cloning https://me:{SECRET}@example.org:8443/a.git into b",
        f"hf_{SECRET}0123456789",
        f"using token ghp_{SECRET}0123456789",
        f"sk-{SECRET}0123456789",
    ],
)
def test_what_looks_like_a_credential_is_masked(text: str) -> None:
    masked = mask(text, [])
    assert SECRET not in masked
    assert MASK in masked


@pytest.mark.parametrize(
    "text",
    [
        '"pad_token": "<pad>"',
        "pad_token: <|endoftext|>",
        "tokenizer_type: AutoTokenizer",
        "{'loss': '6.075', 'tokens/trainable': 44, 'tokens/total': 560, 'epoch': '0.0625'}",
        "see https://example.org/docs?a=b",
        "file:///srv/axolotl.git",
        "hf_short",
        "tiktoken==0.14.0",
        "some-token==1.0",
        "learning_rate: 0.001",
    ],
)
def test_what_is_none_is_left_as_it_is(text: str) -> None:
    assert mask(text, []) == text


def test_only_the_value_is_masked() -> None:
    assert mask(f"a HF_TOKEN={SECRET} b", []) == f"a HF_TOKEN={MASK} b"
    assert mask(f"https://me:{SECRET}@example.org/a.git", []) == f"https://{MASK}@example.org/a.git"
    assert mask(f'{{"hub_token": "{SECRET}", "max_steps": 2}}', []) == f'{{"hub_token": "{MASK}", "max_steps": 2}}'


def test_given_values_are_masked_wherever_they_stand() -> None:
    assert mask(f"x{SECRET}y {SECRET}", [SECRET]) == f"x{MASK}y {MASK}"


def test_a_value_that_holds_another_is_masked_whole() -> None:
    assert mask("abcd-efgh", ["abcd", "abcd-efgh"]) == MASK


def test_very_short_values_would_blot_out_ordinary_words() -> None:
    assert mask("a 1 is a 1", ["1", "a", "is", ""]) == "a 1 is a 1"


@given(st.text(max_size=60), st.text(alphabet="abcdefXYZ0123+/$", min_size=4, max_size=30), st.text(max_size=60))
def test_a_given_value_never_survives(before: str, secret: str, after: str) -> None:
    assert secret not in mask(before + secret + after, [secret]).replace(MASK, "\0")


# Documents

DOCUMENT = f"""\
learning_rate: 0.001  # a comment
hub_token: {SECRET}
wandb: {{wandb_api_key: {SECRET}, project: p}}
list:
  - api_key: "{SECRET}"
    name: n
private_key: |
  {SECRET}
  {SECRET}

special_tokens:
  pad_token: <pad>
dataset: https://me:{SECRET}@example.org/x
"""


def test_a_masked_document_is_still_yaml_and_says_all_but_the_secrets() -> None:
    masked = mask_document(DOCUMENT)
    assert SECRET not in masked
    assert yaml.safe_load(masked) == {
        "learning_rate": 0.001,
        "hub_token": MASK,
        "wandb": {"wandb_api_key": MASK, "project": "p"},
        "list": [{"api_key": MASK, "name": "n"}],
        "private_key": MASK,
        "special_tokens": {"pad_token": "<pad>"},
        "dataset": f"https://{MASK}@example.org/x",
    }
    assert "# a comment" in masked


@given(st.text())
def test_masking_a_document_never_raises_and_is_done_once(text: str) -> None:
    assert mask_document(mask_document(text)) == mask_document(text)


def test_every_text_of_a_value_is_masked() -> None:
    value = {"log": [f"x {SECRET}", 5, None, True, 1.5], "again": {"deep": (f"x {SECRET}", "plain")}}
    assert mask_all(value, [SECRET]) == {
        "log": [f"x {MASK}", 5, None, True, 1.5],
        "again": {"deep": [f"x {MASK}", "plain"]},
    }


def test_what_holds_nothing_to_mask_is_handed_on() -> None:
    value = {"clean": {"a": ["b", 1]}, "log": SECRET}
    found = mask_all(value, [SECRET])
    assert found == {"clean": {"a": ["b", 1]}, "log": MASK}
    assert found["clean"] is value["clean"]
    assert value["log"] == SECRET
