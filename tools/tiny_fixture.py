# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the model and the dataset with which the demo trains in seconds.

The standard library suffices, so the controller needs neither torch nor transformers, and the same seed
gives the same bytes on every machine: the losses that the tests expect depend on them.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import struct
import sys
from pathlib import Path
from typing import Any

SEED = 20260724
ROWS = 64
WORDS = (
    "the cluster node rank port fabric model config hash launch train step loss gpu link verb data shard batch token"
)
SPECIAL_TOKENS = ("<s>", "</s>", "<pad>")

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KEY_VALUE_HEADS, POSITIONS = 32, 64, 2, 4, 2, 1024
INITIALIZER_RANGE = 0.02


def byte_alphabet() -> list[str]:
    """The 256 printable characters that byte-level BPE shows bytes as, in the order of the bytes."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    substitutes = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(substitutes)) for byte in range(256)]


def vocabulary() -> tuple[dict[str, int], list[list[str]]]:
    """Every byte, every word of the dataset with and without a space before it, and the merges that build them."""
    tokens = [*SPECIAL_TOKENS, *byte_alphabet()]
    merges: list[list[str]] = []
    space = byte_alphabet()[ord(" ")]
    for word in WORDS.split():
        for spelling in (word, space + word):
            for end in range(2, len(spelling) + 1):
                merged = spelling[:end]
                if merged not in tokens:
                    tokens.append(merged)
                    merges.append([merged[:-1], merged[-1]])
    return {token: number for number, token in enumerate(tokens)}, merges


def tokenizer(vocab: dict[str, int], merges: list[list[str]]) -> dict[str, Any]:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocab[token], "content": token, **added} for token in SPECIAL_TOKENS],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            # A known word is one token, so every row has the same length and N nodes see N times one node's tokens.
            "ignore_merges": True,
            "vocab": vocab,
            "merges": merges,
        },
    }


def model_config(vocab_size: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": 0,
        "dtype": "float32",
        "eos_token_id": 1,
        "head_dim": HIDDEN // HEADS,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": INITIALIZER_RANGE,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": POSITIONS,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "pad_token_id": 2,
        "rms_norm_eps": 1e-06,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "tie_word_embeddings": False,
        "vocab_size": vocab_size,
    }


def weight_shapes(vocab_size: int) -> dict[str, tuple[int, ...]]:
    key_value = HIDDEN // HEADS * KEY_VALUE_HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "lm_head.weight": (vocab_size, HIDDEN),
        "model.embed_tokens.weight": (vocab_size, HIDDEN),
        "model.norm.weight": (HIDDEN,),
    }
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        shapes |= {
            f"{prefix}.input_layernorm.weight": (HIDDEN,),
            f"{prefix}.post_attention_layernorm.weight": (HIDDEN,),
            f"{prefix}.self_attn.q_proj.weight": (HIDDEN, HIDDEN),
            f"{prefix}.self_attn.k_proj.weight": (key_value, HIDDEN),
            f"{prefix}.self_attn.v_proj.weight": (key_value, HIDDEN),
            f"{prefix}.self_attn.o_proj.weight": (HIDDEN, HIDDEN),
            f"{prefix}.mlp.gate_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{prefix}.mlp.up_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{prefix}.mlp.down_proj.weight": (HIDDEN, INTERMEDIATE),
        }
    return shapes


def safetensors(shapes: dict[str, tuple[int, ...]], generator: random.Random) -> bytes:
    """The file format: length of the header, the header as JSON, then the tensors as little-endian floats."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = bytearray()
    for name, shape in sorted(shapes.items()):
        count = math.prod(shape)
        if name.endswith("norm.weight"):
            values = [1.0] * count
        else:
            # A sum of twelve uniform integers is nearly normal, and exact: gauss() depends on the C library, and
            # sum() of floats on the version of Python.
            sums = [sum(generator.getrandbits(16) for _unused in range(12)) for _unused in range(count)]
            values = [INITIALIZER_RANGE * (total / 2**16 - 6.0) for total in sums]
        start = len(body)
        body += struct.pack(f"<{count}f", *values)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, len(body)]}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    return struct.pack("<Q", len(encoded)) + encoded + bytes(body)


def rows(generator: random.Random) -> list[dict[str, str]]:
    words = WORDS.split()

    def sentence(length: int) -> str:
        return " ".join(words[int(generator.random() * len(words))] for _unused in range(length))

    return [{"instruction": sentence(6), "input": "", "output": sentence(10)} for _unused in range(ROWS)]


def fixture() -> dict[str, bytes]:
    """Every file of the fixture by its relative path."""
    generator = random.Random(SEED)
    vocab, merges = vocabulary()
    names = dict(zip(("bos_token", "eos_token", "pad_token"), SPECIAL_TOKENS, strict=True))
    documents = {
        "model/config.json": model_config(len(vocab)),
        "model/tokenizer.json": tokenizer(vocab, merges),
        "model/tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": POSITIONS,
            **names,
        },
    }
    files = {path: (json.dumps(document, indent=1) + "\n").encode() for path, document in documents.items()}
    files["model/model.safetensors"] = safetensors(weight_shapes(len(vocab)), generator)
    files["data.jsonl"] = "".join(json.dumps(row) + "\n" for row in rows(generator)).encode()
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the demo's tiny model and dataset.")
    parser.add_argument("folder", type=Path, help="folder that receives model/ and data.jsonl")
    folder: Path = parser.parse_args().folder
    for path, content in fixture().items():
        target = folder / path
        if target.is_file() and target.read_bytes() == content:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
