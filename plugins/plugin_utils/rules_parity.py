# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be the same on all nodes, or on all nodes of a group, and of what there must be enough: the table.

Each row's severity answers one question: can a run with this difference hang, crash late or train wrongly?
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from .findings import GIB, WARNING, amount
from .rule_table import AT_LEAST, EQUAL_IN_GROUP, Fingerprint, Plan, Row
from .setting_types import InvalidValue, mapping, whole

PROVISION = "run provision: it puts the pinned release in its place"
SAME_SYSTEM = "bring the nodes to one version with the operating system's package manager, one batch at a time"
SAME_DRIVER = "install the same driver on the nodes, and reboot those where it was changed"
SEE_TO_GPU = "see to the node's GPUs (nvidia-smi -q), or keep the node out of axolotl_nodes until it is repaired"

LEAST_SHM: Mapping[str, int] = {"cuda": GIB, "cpu": 0}
"""Accelerator to bytes of /dev/shm. NCCL passes data between the GPUs of a node through it, PyTorch's data loaders
between processes; NCCL's guide ("Troubleshooting", "Docker") asks for --shm-size=1g, where Docker gives 64 MiB, and
Linux itself half of the memory."""
LEAST_DISK: Mapping[str, int] = {"cuda": 10 * GIB, "cpu": GIB}
"""Accelerator to bytes free where checkpoints are written: on GPUs one checkpoint of a model of 1 B parameters, with
the states of its optimiser (12 to 16 bytes for each); on CPU some of a toy."""

MOST = 1 << 62
"""Bytes that can be asked for."""

SHOWN = 5
"""Variables that a finding lists."""

PER_NODE = {
    "NCCL_SOCKET_IFNAME",
    "NCCL_IB_HCA",
    "NCCL_IB_GID_INDEX",
    "NCCL_IB_DISABLE",
    "NCCL_HOSTID",
    "NCCL_DEBUG_FILE",
    "NCCL_TOPO_FILE",
    "NCCL_TOPO_DUMP_FILE",
    "NCCL_GRAPH_DUMP_FILE",
    "NCCL_CONF_FILE",
}
"""Variables of NCCL that name a thing of one node, so that they may differ; rules_network and rules_infiniband hold
the first four against the node's own interfaces and adapters."""


def at(*path: str) -> Callable[[Fingerprint], Any]:
    """Reads what lies at a path of keys; None where the path ends before."""

    def read(fingerprint: Fingerprint) -> Any:
        found: Any = fingerprint
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    return read


def of_release(name: str) -> Callable[[Fingerprint], Any]:
    """Reads a property of the release, where there is one."""
    return lambda fingerprint: fingerprint["release"][name] if fingerprint["release"]["exists"] else None


def gpus(name: str) -> Callable[[Fingerprint], Any]:
    """Reads a property of all GPUs: each value with how many have it; None where there is no GPU, or none says so."""
    return lambda fingerprint: tuple(sorted(_counted(fingerprint, name).items())) or None


def kinds_of_gpus(name: str) -> Callable[[Fingerprint], Any]:
    """Reads the values of a property that GPUs have, whatever their number."""
    return lambda fingerprint: tuple(sorted(_counted(fingerprint, name))) or None


def _counted(fingerprint: Fingerprint, name: str) -> Counter[Any]:
    return Counter(gpu[name] for gpu in fingerprint["gpus"]["devices"] if gpu[name] is not None)


def submodules(fingerprint: Fingerprint) -> Hashable:
    """The commits of the source's submodules."""
    found = of_release("submodules")(fingerprint)
    return None if found is None else tuple((module["path"], module["commit"]) for module in found)


def nccl_settings(fingerprint: Fingerprint) -> Hashable:
    """The settings that NCCL will take from the environment and its files, but those that name a node's own things."""
    settings = fingerprint["nccl"]["settings"]
    if settings is None:
        return None
    return tuple(sorted((name, found["value"]) for name, found in settings.items() if name not in PER_NODE))


def hca_firmware(fingerprint: Fingerprint) -> Hashable:
    """Firmware of the adapters, by kind of adapter, since a node may have more than one kind."""
    adapters = fingerprint["infiniband"]["hcas"].values()
    known = {(hca["kind"], hca["firmware"]) for hca in adapters if hca["kind"] and hca["firmware"]}
    return tuple(sorted(known)) or None


def fabric_stack(fingerprint: Fingerprint) -> Hashable:
    """Whose InfiniBand stack it is, and its version."""
    stack = fingerprint["infiniband"]["stack"]
    return " ".join(filter(None, (stack["name"], stack["version"]))) or None


def counted(subject: str, expected: Any, found: Any, _fingerprint: Fingerprint) -> tuple[str, str]:
    """Values with how often they occur: 8 x NVIDIA H100."""
    wanted, present = (", ".join(f"{count} x {value}" for value, count in side) for side in (expected, found))
    return f"{subject} {wanted}", f"{subject} {present}"


def listed(subject: str, expected: Any, found: Any, _fingerprint: Fingerprint) -> tuple[str, str]:
    """Several values, some of which belong together."""
    wanted, present = (
        ", ".join(" ".join(map(str, value)) if isinstance(value, tuple) else str(value) for value in side)
        for side in (expected, found)
    )
    return f"{subject} {wanted}", f"{subject} {present}"


def variables(subject: str, expected: Any, found: Any, _fingerprint: Fingerprint) -> tuple[str, str]:
    """Names with values, of which only those that differ are shown."""
    return _variables(subject, dict(expected), dict(found), {})


def nccl_variables(subject: str, expected: Any, found: Any, fingerprint: Fingerprint) -> tuple[str, str]:
    """NCCL's settings, each with the file or the environment that it comes from."""
    origins = {name: f" ({setting['source']})" for name, setting in fingerprint["nccl"]["settings"].items()}
    return _variables(subject, dict(expected), dict(found), origins)


def _variables(
    subject: str, wanted: Mapping[str, str], present: Mapping[str, str], origins: Mapping[str, str]
) -> tuple[str, str]:
    names = [name for name in sorted({*wanted, *present}) if wanted.get(name) != present.get(name)]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    right = [f"{name}={wanted[name]}" if name in wanted else f"{name} not set" for name in names[:SHOWN]]
    other = [
        f"{name}={present[name]}{origins.get(name, '')}" if name in present else f"{name} not set"
        for name in names[:SHOWN]
    ]
    return f"{subject} {', '.join(right)}{more}", f"{subject} {', '.join(other)}{more}"


def shm(fingerprint: Fingerprint) -> Any:
    """Bytes that are free in /dev/shm."""
    found = fingerprint["room"]["shm"]
    return found and min(found["size_bytes"], found["free_bytes"])


def free_shm(subject: str, expected: Any, found: Any, fingerprint: Fingerprint) -> tuple[str, str]:
    """Room in /dev/shm, with its size."""
    return f"{amount(expected)} {subject}", f"{amount(fingerprint['room']['shm']['size_bytes'])}, {amount(found)} free"


def disk(fingerprint: Fingerprint) -> Any:
    """Bytes that are free where the run writes its checkpoints."""
    found = fingerprint["room"]["output_dir"] or fingerprint["room"]["root"]
    return found and found["free_bytes"]


def free_disk(subject: str, expected: Any, found: Any, fingerprint: Fingerprint) -> tuple[str, str]:
    """Room on a disk, and where."""
    place = fingerprint["room"]["output_dir"] or fingerprint["room"]["root"]
    return f"{amount(expected)} {subject}", f"{amount(found)} at {place['path']}"


def _commit(plan: Plan) -> str:
    return str(plan["commit"])


def _lock(plan: Plan) -> Any:
    return plan["lock_sha256"]


ROWS: tuple[Row, ...] = (
    # The release
    Row("commit", "source at commit", of_release("commit"), PROVISION, wanted=_commit),
    Row("submodules", "submodules", submodules, PROVISION, behind=("commit",), shown=variables),
    Row("lock", "lock with sha256", of_release("lock_sha256"), PROVISION, wanted=_lock),
    Row("python", "Python", of_release("python_version"), "give the nodes the same Python, and run provision"),
    Row("torch", "torch", of_release("torch_version"), PROVISION, behind=("lock", "packages")),
    # What it will load
    Row("torch_cuda", "torch built for CUDA", at("libraries", "torch_cuda"), PROVISION, behind=("torch",)),
    Row(
        "cuda_runtime",
        "CUDA runtime",
        at("libraries", "cuda_runtime"),
        "take LD_LIBRARY_PATH and LD_PRELOAD out of axolotl_environment, or run provision",
        behind=("torch", "packages"),
    ),
    Row(
        "cudnn",
        "cuDNN",
        at("libraries", "cudnn"),
        "take LD_LIBRARY_PATH and LD_PRELOAD out of axolotl_environment, or run provision",
        behind=("torch", "packages"),
    ),
    Row(
        "nccl",
        "NCCL",
        at("libraries", "nccl", "version"),
        "take LD_LIBRARY_PATH and LD_PRELOAD out of axolotl_environment, or run provision",
        behind=("torch", "packages"),
    ),
    Row(
        "nccl_settings",
        "NCCL settings",
        nccl_settings,
        "set it once in axolotl_environment, or give /etc/nccl.conf and ~/.nccl.conf the same content on all nodes",
        shown=nccl_variables,
    ),
    # The system
    Row("architecture", "processor architecture", at("system", "architecture"), "use nodes of one architecture"),
    Row("os", "operating system", at("system", "os"), SAME_SYSTEM, EQUAL_IN_GROUP, WARNING),
    Row("kernel", "kernel", at("system", "kernel"), f"{SAME_SYSTEM}, and reboot", EQUAL_IN_GROUP, WARNING),
    Row("glibc", "glibc", at("system", "glibc"), SAME_SYSTEM, EQUAL_IN_GROUP, WARNING, behind=("os",)),
    # The GPUs
    Row("driver", "NVIDIA driver", at("gpus", "driver"), SAME_DRIVER, EQUAL_IN_GROUP),
    Row(
        "gpu_model",
        "GPUs of model",
        kinds_of_gpus("name"),
        "declare the nodes' hardware with parity_group in host_vars, or train on nodes of one kind",
        EQUAL_IN_GROUP,
        shown=listed,
    ),
    Row(
        "gpu_count",
        "GPUs:",
        gpus("name"),
        SEE_TO_GPU,
        EQUAL_IN_GROUP,
        behind=("gpu_model", "devices"),
        shown=counted,
    ),
    Row(
        "gpu_ecc",
        "ECC",
        kinds_of_gpus("ecc"),
        "switch it on (nvidia-smi --ecc-config=1) and reboot: without it a flipped bit goes unnoticed",
        EQUAL_IN_GROUP,
        behind=("gpu_model",),
        shown=listed,
    ),
    Row(
        "gpu_memory",
        "GPU memory in MiB",
        kinds_of_gpus("memory_mib"),
        SEE_TO_GPU,
        EQUAL_IN_GROUP,
        behind=("gpu_model", "gpu_ecc"),
        shown=listed,
    ),
    # The fabric
    Row(
        "fabric_stack",
        "InfiniBand stack",
        fabric_stack,
        "set infiniband_provider (and infiniband_doca_version) for the fleet, and run provision",
        EQUAL_IN_GROUP,
        WARNING,
    ),
    Row(
        "hca_firmware",
        "adapter firmware",
        hca_firmware,
        "bring the adapters to one firmware (mlxfwmanager, or the vendor's tool), one batch at a time",
        EQUAL_IN_GROUP,
        WARNING,
        shown=listed,
    ),
    # The limits of a trainer
    Row(
        "open_files",
        "open files",
        at("limits", "open_files", "soft"),
        "set DefaultLimitNOFILE in /etc/systemd/system.conf.d, or limits.d where runs have no unit, alike on all nodes",
        severity=WARNING,
    ),
    # Room
    Row(
        "shm_small",
        "free in /dev/shm",
        shm,
        "mount -o remount,size=50% /dev/shm (a container: --shm-size or --ipc=host); where it is full, remove what "
        "ended programs left there",
        AT_LEAST,
        WARNING,
        wanted=lambda plan: LEAST_SHM[plan["accelerator"]],
        shown=free_shm,
    ),
    Row(
        "disk_low",
        "free where the run writes its checkpoints",
        disk,
        "make room there (old runs and releases under axolotl_root are yours to remove), or set another output_dir",
        AT_LEAST,
        wanted=lambda plan: LEAST_DISK[plan["accelerator"]],
        shown=free_disk,
    ),
)
"""In the order of cause and consequence: a row may stand behind those above it."""


def pinned(value: Any) -> dict[str, Any]:
    """Read `parity_pinned`.

    Returns:
        Id of a row to the value that all nodes must have.

    Raises:
        InvalidValue: it is no mapping, or a name in it is none of a row, or is pinned by another setting; or a least
            number of bytes is no such number.
    """
    known = mapping(value)
    least = {row.id for row in ROWS if row.compare == AT_LEAST}
    free = {row.id for row in ROWS if not row.wanted} | least
    if not set(known) <= free:
        raise InvalidValue(f"a mapping of values by these ids: {', '.join(sorted(free))}")
    for name in least & set(known):
        whole(0, MOST)(known[name])
    return known
