# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet's settings: the one table of inventory variables, their types, defaults and bounds.

What is read here is typed and complete; everything wrong is a finding, and all findings come at once.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

from . import launchers
from .comparison import outliers
from .exceptions import exceptions
from .findings import Finding, names
from .rules_parity import pinned
from .setting_types import (
    InvalidValue,
    absolute_path,
    account,
    doca_version,
    environment,
    filled,
    flag,
    full_sha,
    hcas,
    interface,
    mapping,
    networks,
    one_of,
    peer_networks,
    text,
    text_list,
    whole,
)
from .training_files import training_files

GROUP = "axolotl_nodes"


@dataclasses.dataclass(frozen=True)
class Setting:
    """One inventory variable.

    Attributes:
        name: the variable.
        parse: turns the inventory's value into the typed one, or raises InvalidValue.
        default: the value where the inventory has none; REQUIRED where there must be one.
        per_node: whether nodes may differ in it; all others are the fleet's and must be equal everywhere.
        summary: one line for the documentation.
    """

    name: str
    parse: Callable[[Any], Any]
    default: Any
    summary: str
    per_node: bool = False


class Unreadable(str):
    """What the inventory says of a setting when it can't be told, because it refers to something undefined, say."""

    __slots__ = ()


REQUIRED = object()
HIDDEN = {"axolotl_secrets", "axolotl_environment"}
"""Settings whose values are never shown: the second may hold a secret by mistake, which is a finding of its own."""


PORT = whole(1024, 65535)  # below 1024 a process needs privileges to listen
SECONDS = whole(1, 7 * 24 * 3600)

SETTINGS: tuple[Setting, ...] = (
    # Each node
    Setting(
        "axolotl_root",
        absolute_path,
        REQUIRED,
        "Folder on the node under which everything lies; equal on all machines.",
        per_node=True,
    ),
    Setting(
        "axolotl_machine",
        filled,
        None,
        "Name of the machine, for nodes that share one; default: the node's own name.",
        per_node=True,
    ),
    Setting(
        "axolotl_node_rank",
        whole(0, 65535),
        None,
        "The node's rank; default: its position in the group.",
        per_node=True,
    ),
    Setting(
        "axolotl_address",
        filled,
        None,
        "Address by which peers reach the node; default: ansible_host, else its name.",
        per_node=True,
    ),
    # The account
    Setting(
        "axolotl_user",
        account,
        "",
        "Account that owns axolotl_root and runs the trainers, made by provision; empty: the one that connects.",
    ),
    # The storage
    Setting("axolotl_storage", one_of("local", "shared"), "local", "Whether all nodes share one axolotl_root."),
    # The release
    Setting("axolotl_repository", filled, REQUIRED, "URL or path of the Axolotl git repository."),
    Setting("axolotl_commit", full_sha, REQUIRED, "Full SHA of the commit that every node runs."),
    Setting("axolotl_extras", text_list, [], "Extras of that commit to install (deepspeed, flash-attn ...)."),
    Setting("axolotl_requirements", text_list, [], "Further requirement lines for the lock, such as torch==2.13.0."),
    Setting("axolotl_python_version", filled, "3.12", "Python of the release, as uv names it."),
    Setting(
        "axolotl_python_platform",
        filled,
        "x86_64-manylinux_2_28",
        "Platform for which the lock is compiled, as uv names it.",
    ),
    Setting(
        "axolotl_torch_backend", text, "", "PyTorch index for uv, such as cu130 or cpu; empty: the configured indexes."
    ),
    Setting(
        "axolotl_lock_dir",
        filled,
        "{inventory_dir}/locks",
        "Folder on the controller that keeps the locks; worth committing.",
    ),
    Setting(
        "axolotl_delivery",
        one_of("pull", "push"),
        "pull",
        "Whether nodes pull source and packages themselves, or get them from the controller and each other.",
    ),
    Setting("axolotl_uv_version", filled, "0.13.9", "uv that builds the environments."),
    Setting("axolotl_uv_cache_dir", text, "", "uv's cache on the node; empty: uv's own default."),
    # The training
    Setting("axolotl_config", filled, REQUIRED, "Axolotl YAML on the controller."),
    Setting(
        "axolotl_training_files",
        training_files,
        [],
        "What the config needs: where it comes from, dest on the node, storage.",
    ),
    Setting(
        "training_files_preprocess",
        one_of("head", "each", "never"),
        "never",
        "Who runs axolotl preprocess in provision: one node for all, each node for itself, or nobody.",
    ),
    Setting("axolotl_accelerator", one_of("cuda", "cpu"), "cuda", "What the trainers run on."),
    Setting("axolotl_nproc_per_node", whole(1, 1024), REQUIRED, "Trainer processes per node, usually its GPUs."),
    Setting(
        "axolotl_launcher",
        one_of(launchers.AUTO, *launchers.LAUNCHERS),
        "torchrun",
        "How the trainers are started; auto: torchrun on InfiniBand or RoCE, else accelerate.",
    ),
    Setting(
        "axolotl_rendezvous",
        one_of("static", "c10d"),
        "static",
        "How the nodes meet; c10d ranks them as they come, and can start anew.",
    ),
    Setting(
        "axolotl_rendezvous_timeout", SECONDS, 600, "Seconds for the launchers to meet by c10d; torchrun's own default."
    ),
    Setting(
        "axolotl_max_restarts",
        whole(0, 100),
        0,
        "How often torchrun starts all workers anew when one fails; with c10d alone.",
    ),
    Setting("axolotl_master_port", PORT, 29500, "Rendezvous port on the head."),
    Setting("axolotl_watch_port", PORT, 29501, "Port on the head where the supervisors meet."),
    Setting("axolotl_overrides", mapping, {}, "Config keys to override for this launch."),
    Setting("axolotl_environment", environment, {}, "Environment of the trainers; secrets belong in axolotl_secrets."),
    Setting("axolotl_secrets", environment, {}, "Secret environment of the trainers (HF_TOKEN ...); shown nowhere."),
    Setting(
        "rerun",
        text,
        "",
        "Id of a run on record: code, config, overrides, launcher and environment are taken from there.",
    ),
    Setting("smoke", flag, False, "Whether launch makes a smoke run: two steps, apart from the training's own output."),
    Setting(
        "axolotl_require_smoke",
        whole(0, 8760),
        0,
        "Hours within which a smoke run of this release and config must have passed; 0: none is demanded.",
    ),
    # Parity
    Setting(
        "parity_reference",
        one_of("majority", "head"),
        "majority",
        "Whose value is right where nodes differ: that of most, or the head's.",
    ),
    Setting("parity_pinned", pinned, {}, "Values that are right whatever the nodes have, by the finding's id."),
    Setting(
        "parity_group",
        text,
        "",
        "Name for the node's kind of hardware; what belongs to hardware is compared among nodes of one kind.",
        per_node=True,
    ),
    Setting(
        "parity_exceptions",
        exceptions,
        {},
        "Findings of preflight that you accept, each with a reason.",
    ),
    Setting(
        "parity_record",
        text,
        "",
        "File on the controller that keeps what the fleet agrees on, for version control; empty: none.",
    ),
    Setting(
        "parity_rehash", flag, False, "Whether to digest all training data anew, which alone shows a decayed disk."
    ),
    Setting("parity_timeout", SECONDS, 3600, "Seconds for reading a node, with the digests of its training data."),
    # The network
    Setting(
        "axolotl_interface",
        interface,
        None,
        "Interface that carries the training; default: the one with the node's address.",
        per_node=True,
    ),
    Setting(
        "axolotl_hcas",
        hcas,
        None,
        "InfiniBand or RoCE adapters that carry it; default: derived; empty: none.",
        per_node=True,
    ),
    Setting(
        "axolotl_management_networks",
        networks,
        [],
        "Networks that must not carry it.",
    ),
    # The firewall
    Setting(
        "axolotl_firewall",
        one_of("auto", "firewalld", "ufw", "nftables", "none"),
        "auto",
        "The firewall to open between the nodes.",
    ),
    Setting(
        "axolotl_peer_addresses",
        peer_networks,
        [],
        "Further addresses of the node, or networks, from which its traffic comes to its peers.",
        per_node=True,
    ),
    # Supervision
    Setting("axolotl_supervisor", one_of("auto", "systemd", "process"), "auto", "What the supervisors run under."),
    Setting("axolotl_join_timeout", SECONDS, 120, "Seconds for all supervisors to meet before anything starts."),
    Setting("axolotl_watch_grace", SECONDS, 60, "Seconds without word from a node after which the run is ended."),
    Setting("axolotl_stop_grace", SECONDS, 5, "Seconds between SIGTERM and SIGKILL."),
    Setting("axolotl_follow", flag, True, "Whether launch stays with the run until its end."),
    Setting("axolotl_follow_interval", whole(1, 3600), 10, "Seconds between two lines of progress."),
    Setting(
        "axolotl_expected_tokens",
        whole(0, 999_999_999),
        0,
        "tokens/total that the first step must show; 0: not checked.",
    ),
    # InfiniBand
    Setting(
        "infiniband_provider",
        one_of("none", "inbox", "doca"),
        "none",
        "Whose InfiniBand stack provision installs: nobody's, the distribution's, or NVIDIA's DOCA-OFED.",
    ),
    Setting("infiniband_doca_version", doca_version, "", "Exact version of DOCA; needed for doca."),
    Setting(
        "infiniband_doca_key",
        text,
        "",
        "Path on the controller of the key that signs DOCA's repository; needed for doca.",
    ),
    Setting(
        "infiniband_doca_repository",
        filled,
        "https://linux.mellanox.com/public/repo/doca",
        "URL under which the versions of DOCA lie: NVIDIA's, or that of a mirror.",
    ),
    Setting(
        "infiniband_reboot", flag, False, "Whether provision reboots nodes that need it for new drivers, one at a time."
    ),
    # The controller
    Setting(
        "gpufleet_artifacts_dir",
        filled,
        "artifacts",
        "Folder on the controller for verdicts, records and what is collected.",
    ),
)


class Values(dict[str, Any]):
    """The parsed settings of one node, by name."""

    def __getattr__(self, name: str) -> Any:
        return self["axolotl_" + name]


def read(
    variables: Mapping[str, Mapping[str, Any]], needed: set[str] | None = None
) -> tuple[dict[str, Values], list[Finding]]:
    """Read every node's settings.

    Args:
        variables: node to its inventory variables, in the order of the group.
        needed: the settings that the verb at hand needs; None for all. The others are not looked at.

    Returns:
        node to its values (only those that parse), and a finding for each that does not, is missing, or differs
        between nodes though it must not.
    """
    values = {node: Values() for node in variables}
    findings: list[Finding] = []
    for setting in SETTINGS:
        if needed is None or setting.name in needed:
            findings.extend(_read_one(setting, variables, values))
    return values, findings


def _read_one(setting: Setting, variables: Mapping[str, Mapping[str, Any]], values: dict[str, Values]) -> list[Finding]:
    wrong: dict[tuple[str, str, str], list[str]] = {}
    for node, inventory in variables.items():
        value = inventory.get(setting.name)
        if isinstance(value, Unreadable):
            wrong.setdefault(("setting_invalid", "a value that can be read", str(value)[:300]), []).append(node)
        elif value is None and setting.default is REQUIRED:
            wrong.setdefault(("setting_missing", setting.summary, "not set"), []).append(node)
        elif value is None:
            default = setting.default
            if isinstance(default, str):
                default = default.replace("{inventory_dir}", str(inventory.get("inventory_dir") or "."))
            values[node][setting.name] = default
        else:
            try:
                values[node][setting.name] = setting.parse(value)
            except InvalidValue as error:
                shown = "a value that is not shown" if setting.name in HIDDEN else repr(value)[:200]
                wrong.setdefault(("setting_invalid", str(error), shown), []).append(node)
    where = f"set {setting.name} in the inventory (group_vars of {GROUP}{' or host_vars' if setting.per_node else ''})"
    findings = [
        Finding(rule, tuple(hosts), f"{setting.name}: {expected}", found, where)
        for (rule, expected, found), hosts in wrong.items()
    ]
    return findings or ([] if setting.per_node else _differing(setting, values, where))


def _differing(setting: Setting, values: dict[str, Values], where: str) -> list[Finding]:
    shown = {node: json.dumps(known.get(setting.name), sort_keys=True, default=str) for node, known in values.items()}
    expected, others = outliers(shown, head=next(iter(shown)))
    if not others:
        return []
    groups = list(others.items())[:4]
    found = "; ".join(f"{str(value)[:80]} on {names(nodes, limit=3)}" for value, nodes in groups)
    wanted = f"{setting.name} is equal on all nodes"
    if setting.name in HIDDEN:
        found = "other values, not shown"
    else:
        wanted += f", as on most: {str(expected)[:80]}"
    outside = tuple(node for nodes in others.values() for node in nodes)
    return [Finding("setting_differs", outside, wanted, found, f"{where}, once for all")]
