# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the base model is: its layers, as the release's transformers defines them, and its size.

Everything is read as text, without importing transformers: FSDP is told the name of a class, and what classes a model
is made of stands in one file of its architecture.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from . import training_inputs
from .installed_packages import site_packages

MOST_BYTES = 16 << 20
"""Of one file that is read whole; config.json has some kilobytes, an index or a modeling file some hundred."""
MOST_HEADER = 100 << 20
"""Bytes of a safetensors file's header, by its own definition (huggingface/safetensors, README)."""
PARTS = 8
"""Levels of config.json in which another model's config may stand (text_config, vision_config ...)."""
FLOATING = frozenset({"F64", "F32", "F16", "BF16"})
"""Kinds of numbers in a safetensors file of which one is one parameter; others are packed or scale factors."""

NOTHING: Mapping[str, Any] = {
    "folder": None,
    "model_types": [],
    "layers": [],
    "classes": [],
    "bytes": None,
    "parameters": None,
}


def read(place: Mapping[str, Any], release: str) -> dict[str, Any]:
    """Describe the base model of a training.

    Args:
        place: path, repository (its folder in the Hub's cache) and revision, as the launch plan has them.
        release: the release's folder.

    Returns:
        folder (None where the model is not on this node yet), model_types, layers (the classes that transformers keeps
        whole, ``_no_split_modules``: what FSDP wraps), classes (all that the architecture's files define), bytes (of
        the files with its weights), parameters (None where they can't be told: other formats than safetensors, or
        quantised) and error.
    """
    path = str(place["path"])
    folder = path if os.path.lexists(path) else training_inputs.snapshot(str(place["repository"]), place["revision"])
    if not folder or not os.path.isdir(folder):
        return {**NOTHING, "error": None}
    config = _json(os.path.join(folder, "config.json"))
    types = list(dict.fromkeys(_model_types(config, PARTS)))
    sources = [*glob.glob(os.path.join(glob.escape(folder), "*.py"))] if config.get("auto_map") else []
    for name in types:
        sources += _modeling_files(release, name)
    texts = [_text(source) for source in sources]
    weights = _weights(folder)
    return {
        "folder": folder,
        "model_types": types,
        "layers": sorted({name for text in texts for name in _layers(text)}),
        "classes": sorted({name for text in texts for name in re.findall(r"^class (\w+)", text, re.MULTILINE)}),
        "bytes": sum(map(os.path.getsize, weights)) or None,
        "parameters": _parameters(weights),
        "error": None,
    }


def _model_types(config: Mapping[str, Any], levels: int) -> Iterator[str]:
    """The model's own, and those of the models that it is made of."""
    name = config.get("model_type")
    if isinstance(name, str) and re.fullmatch(r"[\w.-]+", name):
        yield name
    for value in config.values():
        if isinstance(value, dict) and levels:
            yield from _model_types(value, levels - 1)


def _modeling_files(release: str, model_type: str) -> list[str]:
    """The files that define an architecture: models/<folder>/modeling_*.py of the release's transformers.

    The folder has the type's name with an underscore for a dash; the exceptions stand in models/auto as pairs of type
    and folder (SPECIAL_MODEL_TYPE_TO_MODULE_NAME).
    """
    for site in site_packages(os.path.join(release, "venv")):
        models = os.path.join(site, "transformers", "models")
        names = [re.sub(r"\W", "_", model_type)]
        for table in ("auto_mappings.py", "configuration_auto.py"):
            pair = rf"[\"']{re.escape(model_type)}[\"']\s*[,:]\s*[\"'](\w+)[\"']"
            names += re.findall(pair, _text(os.path.join(models, "auto", table)))
        for name in names:
            found = sorted(glob.glob(os.path.join(glob.escape(models), name, "modeling_*.py")))
            if found:
                return found
    return []


def _layers(text: str) -> Iterator[str]:
    """Names in the lists that are assigned to _no_split_modules."""
    for listed in re.findall(r"_no_split_modules\s*(?::[^=\n]*)?=\s*\[([^\]]*)\]", text):
        yield from re.findall(r"[\"'](\w+)[\"']", listed)


def _weights(folder: str) -> list[str]:
    """The files from which the model is loaded; a repository may hold it in several formats."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        index = _json(os.path.join(folder, f"{name}.index.json")).get("weight_map")
        listed = index.values() if isinstance(index, dict) else [name]
        names = {os.path.basename(value) for value in listed if isinstance(value, str)}
        found = [os.path.join(folder, value) for value in sorted(names)]
        found = [path for path in found if os.path.isfile(path)]
        if found:
            return found
    return []


def _parameters(weights: list[str]) -> int | None:
    """Numbers in safetensors files, from the lists of tensors with which they begin."""
    total = 0
    for path in weights:
        with open(path, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not path.endswith(".safetensors") or length > MOST_HEADER:
                return None
            try:
                header = json.loads(stream.read(length))
                tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
                if not all(tensor["dtype"] in FLOATING for tensor in tensors):
                    return None
                total += sum(_product(tensor["shape"]) for tensor in tensors)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                return None
    return total or None


def _product(shape: list[int]) -> int:
    size = 1
    for length in shape:
        size *= int(length)
    return size


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(MOST_BYTES)
    except OSError:
        return ""


def _json(path: str) -> dict[str, Any]:
    try:
        value = json.loads(_text(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
