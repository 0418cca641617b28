# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`parity_exceptions`: findings of preflight that the fleet's owner knows of and accepts, each with a reason."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from .findings import ERROR, WAIVED, WARNING, Finding
from .setting_types import InvalidValue, filled, mapping, text_list

EXPECTED = "a mapping of a finding's id to {severity: warning or waived, reason, hosts (optional)}"


def exceptions(value: Any) -> dict[str, dict[str, Any]]:
    """Read the setting.

    Returns:
        Id to severity (warning or waived), reason, and hosts (empty for all).

    Raises:
        InvalidValue: it is no such mapping, or names a finding that does not exist or can't be accepted.
    """
    found = {}
    for name, entry in mapping(value).items():
        if name not in ACCEPTABLE:
            near = difflib.get_close_matches(name, ACCEPTABLE, 1)
            meant = f", did you mean {near[0]}" if near else ""
            raise InvalidValue(f"{EXPECTED}: {name} is no finding of preflight that can be accepted{meant}")
        entry = mapping(entry)
        if set(entry) - {"severity", "reason", "hosts"} or entry.get("severity") not in (WARNING, WAIVED):
            raise InvalidValue(EXPECTED)
        found[name] = {
            "severity": entry["severity"],
            "reason": filled(entry.get("reason", "")),
            "hosts": text_list(entry.get("hosts", [])),
        }
    return found


def applied(findings: Iterable[Finding], accepted: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """The findings with the severities that the owner gave them; the reason stands beside it.

    An exception for some hosts leaves the finding as it is for the others. None makes a finding worse.
    """
    result = []
    for finding in findings:
        exception = accepted.get(finding.id)
        if not exception or (finding.severity, exception["severity"]) not in LOWERED:
            result.append(finding)
            continue
        hosts = [host for host in finding.hosts if host in exception["hosts"] or not exception["hosts"]]
        others = tuple(host for host in finding.hosts if host not in hosts)
        if others:
            result.append(dataclasses.replace(finding, hosts=others))
        if hosts or not finding.hosts:
            changed = {"severity": exception["severity"], "reason": exception["reason"]}
            result.append(dataclasses.replace(finding, hosts=tuple(hosts), **changed))
    return result


LOWERED = {(ERROR, WARNING), (ERROR, WAIVED), (WARNING, WAIVED)}
"""From what to what an exception takes a finding."""

IMPOSSIBLE = frozenset({"config_missing", "launcher_unknown", "port_taken", "release_missing", "run_active"})
"""What keeps a launch from working, whoever accepts it."""

_FOUND = """
    accelerate_config address_not_here architecture checkpoint_storage clock_offset commit config
    config_form config_key_unknown config_refused cuda_runtime cudnn deepspeed_with_fsdp devices disk_low
    drift driver driver_too_old fabric_manager fabric_stack fsdp_memory fsdp_optimizer fsdp_state_dict
    fsdp_version fsdp_wrap_class fsdp_wrap_size glibc gpu_count gpu_ecc gpu_hidden gpu_in_use gpu_memory
    gpu_mig gpu_model gpu_pcie gpu_persistence gpu_row_remap gpu_throttle gpu_unused gpudirect_missing
    hca_firmware head_address head_resolves_loopback head_unreachable hub_missing hub_revision ib_errors
    ib_hca_missing ib_link_layer ib_module_missing ib_port_down ib_rate_low ib_unreadable interface_address
    interface_down interface_loopback interface_management interface_missing kernel lock machine_differs
    machine_twice memlock_low mtu_blackhole mtu_differs name_resolution nccl nccl_harmful nccl_hca_prefix nccl_library
    nccl_settings nccl_unread
    neighbour_table node_address node_reaches_nobody node_unreachable_by_peers open_files os
    override_unknown package_edited packages pair_unreachable path_mtu prepared_damaged prepared_differs
    prepared_missing prepared_stale probe_failed python release_damaged release_unfinished rerun_data roce_gid_missing
    runs_as_root shm_small source_edited storage_is_shared storage_not_shared storage_not_writable
    submodules torch torch_cuda training_file
"""
ACCEPTABLE = frozenset(_FOUND.split())
"""What else preflight can find, but for what leaves it without an answer: a node that was not reached or not read, or
that `--limit` left out."""
