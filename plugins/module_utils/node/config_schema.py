# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the release's own Axolotl says of the config: which keys it knows, and whether it would take the values.

Axolotl drops a key that it does not know without a word, so its list of keys is what tells a typo from a setting.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from typing import Any

from ..core.masking import mask
from . import commands

SECONDS = 90.0
"""For importing Axolotl's schema, and torch with it: 2.5 s of one processor and 310 MB of memory on a warm disk
(Axolotl 0.19.0); the rest is for a cold network file system."""
MOST_REFUSED = 20
LONGEST = 300
"""Characters of one refusal."""

NOTHING: Mapping[str, Any] = {"keys": None, "refused": [], "foreign_plugins": []}

PROGRAM = r"""
import glob, json, os, re, sys, typing
import yaml

request = json.loads(sys.argv[2])
with open(sys.argv[1], encoding="utf-8") as stream:
    config = yaml.safe_load(stream)
if not isinstance(config, dict):
    sys.exit("the config is no mapping")
for path, value in request["overrides"].items():
    part, (*above, key) = config, path.split(".")
    for name in above:
        if not isinstance(part.get(name), dict):
            part[name] = {}
        part = part[name]
    part[key] = value

from importlib.metadata import version
from pydantic import BaseModel, ValidationError
from axolotl.utils.schemas import config as schemas

model, foreign, plugins = schemas.AxolotlConfigWCapabilities, [], config.get("plugins")
if plugins and isinstance(plugins, list):
    from axolotl.integrations.base import PluginManager
    from axolotl.integrations.config import merge_input_args
    for name in map(str, plugins):
        if name.startswith("axolotl."):
            PluginManager.get_instance().register(name)
        else:
            foreign.append(name)
    model = merge_input_args()[0]

def looked_up(*paths):  # keys that validators see to before the fields are read, such as old names
    for path in paths:
        with open(path, encoding="utf-8") as stream:
            yield from re.findall(r"\bdata(?:\.get\(|\.pop\(|\[)\s*[\"'](\w+)[\"']", stream.read())

def parts(annotation):
    yield annotation
    for argument in typing.get_args(annotation):
        yield from parts(argument)

def spellings(name, field):
    yield name
    for alias in (field.alias, field.validation_alias):
        yield from (item for item in getattr(alias, "choices", [alias]) if isinstance(item, str))

def describe(cls, prefix, levels, keys):
    known = keys.setdefault(prefix, set())
    known.update(looked_up(sys.modules[cls.__module__].__file__, *helpers))
    for name, field in cls.model_fields.items():
        names = set(spellings(name, field))
        known |= names
        inside = list(parts(field.annotation))
        if levels and not any(part is dict or part is typing.Any for part in inside):
            for part in inside:
                if isinstance(part, type) and issubclass(part, BaseModel):
                    for spelling in names:
                        describe(part, (prefix + "." if prefix else "") + spelling, levels - 1, keys)
    return keys

folder = os.path.dirname(schemas.__file__)
helpers = glob.glob(os.path.join(folder, "utils.py"))
keys = describe(schemas.AxolotlConfigWCapabilities, "", 3, {})
keys[""].update(model.model_fields, looked_up(*glob.glob(os.path.join(folder, "*.py"))))

def place(steps):
    found, here = [], config
    for step in steps:
        try:
            here = here[step]
        except (KeyError, IndexError, TypeError):
            break
        found.append(str(step))
    return ".".join(found)

# A GPU that can do all: what the node's own can't is for the training to say.
able = request["accelerator"] == "cuda"
capabilities = {
    "bf16": able, "fp8": able, "tf32": able, "n_gpu": request["world_size"],
    "compute_capability": "sm_90" if able else None,
}
refused = []
try:
    model(**{
        **config, "capabilities": capabilities, "env_capabilities": {"torch_version": version("torch").split("+")[0]}
    })
except ValidationError as error:
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        # A plugin's own fields lose the defaults that Axolotl gives them afterwards.
        if not (plugins and item["type"] == "missing" and len(item["loc"]) == 1):
            refused.append([place(item["loc"]), item["msg"]])
except Exception as error:
    refused.append(["", type(error).__name__ + ": " + str(error)])
print("\n" + json.dumps({
    "keys": {name: sorted(known) for name, known in keys.items()}, "refused": refused, "foreign_plugins": foreign
}))
"""
"""Run by the release's Python, in the trainers' folder. It reads the config as `axolotl train` does (cli/config.py,
utils/config/__init__.py, 0.19.0) and imports the schema alone, which takes a third of the time of Axolotl's own
function. Plugins of the release are imported, since they bring keys of their own; somebody else's code is not run."""


def read(
    release: str,
    config: str,
    overrides: Mapping[str, Any],
    world_size: int,
    accelerator: str,
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """Ask the release's schema about the config as the training will see it.

    No GPU is touched, nothing is fetched, and nothing is left behind.

    Args:
        release: the release's folder.
        config: absolute path of the Axolotl config.
        overrides: dotted key to value, put over the config.
        world_size: number of all trainer processes.
        accelerator: cuda or cpu.
        environment: of the trainers; this process's own does not count. HOME is the folder in which they run.

    Returns:
        keys: dotted place in the config ("" for its top) to the names that are known there; None where it could not be
        asked. refused: key ("" for none in particular) and message of each value that is refused, secrets masked.
        foreign_plugins: plugins that are not Axolotl's own, whose keys are not known. error: None where it answered, or
        where release or config is not there.
    """
    python = os.path.join(release, "venv", "bin", "python")
    if not (os.path.exists(python) and os.path.exists(config)):
        return {**NOTHING, "error": None}
    request = {"overrides": overrides, "world_size": world_size, "accelerator": accelerator}
    with tempfile.TemporaryDirectory(prefix="gpufleet-") as folder:
        bounds = {
            "TMPDIR": folder,
            "PYTHONDONTWRITEBYTECODE": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "HF_HUB_OFFLINE": "1",
            "AXOLOTL_DO_NOT_TRACK": "1",
        }
        result = commands.run(
            [python, "-c", PROGRAM, config, json.dumps(request)],
            SECONDS,
            env={**environment, **bounds},
            cwd=environment.get("HOME") or os.path.dirname(config),
            inherit=False,
        )
    found = _decoded(result.stdout) if result.rc == 0 else None
    late = f"no answer within {SECONDS:.0f} s" if result.timed_out else _last_line(result.message(1 << 16))
    return {**NOTHING, **(found or {}), "error": None if found else f"asking Axolotl's schema: {late}"}


def _decoded(said: str) -> dict[str, Any] | None:
    """The program's answer; None where it is none."""
    try:
        answer = json.loads(said.splitlines()[-1])
        refused = [[str(key), _shortened(str(message))] for key, message in answer["refused"][:MOST_REFUSED]]
        keys = {str(place): [str(name) for name in known] for place, known in answer["keys"].items()}
        plugins = [str(name)[:LONGEST] for name in answer["foreign_plugins"]]
    except (IndexError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return {"keys": keys, "refused": refused, "foreign_plugins": plugins}


def _shortened(message: str) -> str:
    return mask(" ".join(message.split()), ())[:LONGEST]


def _last_line(text: str) -> str:
    """What a traceback ends with."""
    lines = [line for line in text.splitlines() if line.strip()]
    return _shortened(lines[-1]) if lines else "no answer"
