# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a training reads beside its config: the training files, and whatever else the config names.

The names of the keys are those of Axolotl's config (src/axolotl/utils/schemas). A config is somebody's text: a value of
another type than Axolotl takes is passed over here, and Axolotl refuses it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

MODEL_KEYS = ("base_model", "base_model_config", "tokenizer_config", "processor_config")
"""Keys that name a model's folder or a model on the Hub, in the version of `revision_of_model`."""
DATASET_KEYS = ("datasets", "test_datasets", "pretraining_dataset")
FILE_KEYS = ("deepspeed", "chat_template_jinja")
"""Keys whose value may be a file, or its very content."""
DEFAULT_PREPARED = "last_run_prepared"
"""Axolotl's own, relative to the folder in which it runs (src/axolotl/common/const.py)."""
BUILDERS = frozenset({"json", "csv", "parquet", "arrow", "text"})
"""What `path` of a dataset may be beside a path: a format, and `data_files` says where the data is."""
_HUB_ID = r"[\w.-]+(?:/[\w.-]+)?"
_LONGEST = 1024  # nothing longer is a path that somebody wrote into a config


class _Reference(NamedTuple):
    """A value of the config that names something to read.

    Attributes:
        key: where it stands in the config.
        value: the path, or the name on the Hub.
        repository: kind of repository on the Hub, ``models`` or ``datasets``; empty where it can only be a path.
        revision: the version that is asked of the Hub.
        prepares: whether the prepared dataset depends on it.
        relative: whether it is a path in any case, even one that does not look like one.
    """

    key: str
    value: str
    repository: str = ""
    revision: str = "main"
    prepares: bool = True
    relative: bool = False


def inputs(
    config: Mapping[Any, Any],
    overrides: Mapping[str, Any],
    training_files: Sequence[Mapping[str, Any]],
    environment: Mapping[str, str],
) -> list[dict[str, Any]]:
    """List what the training reads on a node.

    A value counts as a path when it is absolute, begins with ./, ../ or ~, or lies under the `dest` of a training file;
    any other may be a name on the Hub. A pattern stands for the folder above it. The work folder itself and what holds
    it are left out, since the training writes there.

    Args:
        config: the Axolotl config as it was read.
        overrides: config keys that are overridden for this launch.
        training_files: the entries of `axolotl_training_files` (dest).
        environment: the trainers', whose HOME is the work folder.

    Returns:
        Each with name, path, kind (``path`` or ``hub``), follow, prepares (whether the prepared dataset depends on it)
        and dataset (whether it is one itself); for ``hub`` also `repository`, its folder in the Hub's cache, and
        `revision`. Names are unique, and nothing that lies in another one's tree is listed again.
    """
    work = environment["HOME"]
    places = {entry["dest"]: os.path.normpath(os.path.join(work, entry["dest"])) for entry in training_files}
    references = list(_references({**config, **overrides}))
    found = [(reference, _path(reference, work, places.values())) for reference in references]
    listed: list[dict[str, Any]] = []
    for dest, place in places.items():
        read = [reference for reference, path in found if path and (_within(path, place) or _within(place, path))]
        listed.append(_input(dest, place, read))
    for reference, path in found:
        name = f"{reference.key}: {reference.value}"[:200]
        if path:
            if not _within(work, path) and not any(
                _within(path, other["path"]) for other in listed if other["kind"] == "path"
            ):
                listed.append(_input(name, path, [reference]))
        elif reference.repository and re.fullmatch(_HUB_ID, reference.value):
            entry = {
                **_input(name, os.path.join(work, reference.value), [reference]),
                "kind": "hub",
                "repository": _repository(reference, environment),
                "revision": reference.revision,
            }
            same = ("repository", "revision")
            if not any([other.get(key) for key in same] == [entry[key] for key in same] for other in listed):
                listed.append(entry)
    return listed


def base_model(
    config: Mapping[Any, Any],
    overrides: Mapping[str, Any],
    training_files: Sequence[Mapping[str, Any]],
    environment: Mapping[str, str],
) -> dict[str, str]:
    """Where the base model is on a node; the arguments are those of `inputs`.

    Returns:
        path (absolute), repository (its folder in the Hub's cache) and revision. Empty where the config names no model,
        or takes its architecture from another one (`base_model_config`).
    """
    wanted = {**config, **overrides}
    work = environment["HOME"]
    places = [os.path.normpath(os.path.join(work, entry["dest"])) for entry in training_files]
    reference = next((one for one in _references(wanted) if one.key == "base_model"), None)
    if reference is None or _text(wanted.get("base_model_config")) not in ("", reference.value):
        return {}
    return {
        "path": _path(reference, work, places) or os.path.join(work, reference.value),
        "repository": _repository(reference, environment),
        "revision": reference.revision,
    }


def prepared_path(config: Mapping[Any, Any], overrides: Mapping[str, Any], work: str) -> str:
    """Absolute path of the folder with prepared datasets; empty where the config prepares none."""
    wanted = {**config, **overrides}
    if any(wanted.get(key) for key in ("skip_prepare_dataset", "pretraining_dataset", "streaming")):
        return ""
    return os.path.normpath(os.path.join(work, _text(wanted.get("dataset_prepared_path")) or DEFAULT_PREPARED))


def offline(environment: Mapping[str, str]) -> bool:
    """Whether the Hub's library stays off the net (huggingface_hub/constants.py)."""
    value = environment.get("HF_HUB_OFFLINE") or environment.get("TRANSFORMERS_OFFLINE") or ""
    return str(value).upper() in ("1", "ON", "YES", "TRUE")


def _references(config: Mapping[Any, Any]) -> Iterator[_Reference]:
    revision = _text(config.get("revision_of_model")) or "main"
    for key in MODEL_KEYS:
        if value := _text(config.get(key)):
            yield _Reference(key, value, "models", revision)
    if value := _text(config.get("lora_model_dir")):
        yield _Reference("lora_model_dir", value, "models", prepares=False)
    for key in FILE_KEYS:
        if value := _text(config.get(key)):
            yield _Reference(key, value, prepares=key != "deepspeed", relative=value.endswith(".json"))
    for key in DATASET_KEYS:
        yield from _datasets(key, config.get(key))


def _datasets(key: str, value: Any) -> Iterator[_Reference]:
    for position, entry in enumerate(value if isinstance(value, list) else [value]):
        name = f"{key}[{position}]" if isinstance(value, list) else key
        if isinstance(entry, str):
            entry = {"path": entry}
        if not isinstance(entry, Mapping):
            continue
        path = _text(entry.get("path"))
        if path and path not in BUILDERS:
            yield _Reference(f"{name}.path", path, "datasets", _text(entry.get("revision")) or "main")
        for file in _texts(entry.get("data_files")):
            yield _Reference(f"{name}.data_files", file, relative=path in BUILDERS)
        if template := _text(entry.get("chat_template_jinja")):
            yield _Reference(f"{name}.chat_template_jinja", template)


def _text(value: Any) -> str:
    """A value that may be a path or a name; empty for any other."""
    return str(value) if isinstance(value, str) and len(value) <= _LONGEST and value.isprintable() else ""


def _texts(value: Any) -> list[str]:
    """Paths in a text, a list, or a mapping of splits to either, as load_dataset takes `data_files`."""
    if isinstance(value, Mapping):
        return [text for item in value.values() if not isinstance(item, Mapping) for text in _texts(item)]
    items = value if isinstance(value, list) else [value]
    return [_text(item) for item in items if _text(item)]


def _path(reference: _Reference, work: str, places: Iterable[str]) -> str:
    """Where the value leads when it is a path; else empty."""
    value = reference.value
    if "://" in value:
        return ""
    if value == "~" or value.startswith("~/"):
        value, local = value[2:], True
    else:
        local = value in (".", "..") or value.startswith(("/", "./", "../")) or reference.relative
    head = re.split(r"[*?\[]", value, maxsplit=1)[0]
    if head != value:  # a pattern: the folder above it
        value = os.path.dirname(head)
    path = os.path.normpath(os.path.join(work, value))
    return path if local or any(_within(path, place) for place in places) else ""


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _input(name: str, path: str, read: Sequence[_Reference]) -> dict[str, Any]:
    return {
        "name": name,
        "path": path,
        "kind": "path",
        "follow": True,
        "prepares": any(reference.prepares for reference in read),
        "dataset": any(reference.key.startswith(DATASET_KEYS) for reference in read),
    }


def _repository(reference: _Reference, environment: Mapping[str, str]) -> str:
    """Folder of a repository in the Hub's cache (huggingface_hub/constants.py, file_download.py)."""
    cache = environment.get("XDG_CACHE_HOME") or os.path.join(environment["HOME"], ".cache")
    home = environment.get("HF_HOME") or os.path.join(cache, "huggingface")
    hub = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    if hub == "~" or hub.startswith("~/"):
        hub = os.path.join(environment["HOME"], hub[2:])
    return os.path.join(hub, f"{reference.repository}--{reference.value.replace('/', '--')}")
