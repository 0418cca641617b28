# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight on three real hosts: what is planted on one of them alone is named there, and nothing else is.

The release is a small one, so that a test takes seconds. The GPUs are made up: nvidia-smi is a script on the hosts that
prints what the real one printed on a machine with H100s.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from support.host_fleet import HostFleet

from tools.hosts.bed import Bed

ROOT = "/opt/axolotl"
WORK = f"{ROOT}/work"
SITE = f"{ROOT}/current/venv/lib/python3.11/site-packages"
SOURCE = f"{ROOT}/current/source"
MAIN = f"{SOURCE}/axolotl/cli/main.py"
SHARD = f"{WORK}/data/shard-2.jsonl"
GIT = f"git -C {SOURCE} -c safe.directory=* -c user.name=a -c user.email=a@b"
SMI = "/usr/local/bin/nvidia-smi"
REPORT = "/etc/nvidia-smi.xml"
CAPTURED = Path(__file__).resolve().parents[1] / "unit/captured"
CLEAN_RUNS = int(os.environ.get("CLEAN_RUNS", "2"))
"""Preflights of the fleet as provision leaves it; 20 by hand."""
CONFIG = {
    "base_model": "./model",
    "tokenizer_config": "./tokenizer",
    "datasets": [{"path": "./data", "type": "completion"}],
    "dataset_prepared_path": "./prepared",
    "output_dir": "./out",
    "learning_rate": 0.001,
}
FILES = {
    "model/config.json": b"{}\n",
    "model/model.safetensors": b"weights\n" * 5000,
    "tokenizer/tokenizer.json": b'{"version": "1.0"}\n',
    **{f"data/shard-{number}.jsonl": b'{"text": "%d"}\n' % number * 100 for number in range(4)},
}


def two_idle_gpus(report: str) -> str:
    """The captured report with its idle GPU twice, in the place of the one at work."""
    idle, busy = re.findall(r"\t<gpu id=.*?</gpu>\n", report, re.DOTALL)
    return report.replace(busy, re.sub(r"<uuid>GPU-.{8}", "<uuid>GPU-ffffffff", idle))


@pytest.fixture(scope="module")
def fleet(bare_hosts: Bed, tmp_path_factory: pytest.TempPathFactory) -> HostFleet:
    """Three hosts, provisioned; they have GPUs as far as nvidia-smi says."""
    folder = tmp_path_factory.mktemp("fleet")
    for name, content in FILES.items():
        (folder / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "files" / name).write_bytes(content)
    sources = [{"src": str(folder / "files" / name), "dest": name} for name in ("model", "tokenizer", "data")]
    made = folder / "made"
    fleet = HostFleet(
        bare_hosts,
        made,
        ["host0", "host1", "host2"],
        axolotl_root=ROOT,
        axolotl_accelerator="cuda",
        axolotl_environment={"CUDA_VISIBLE_DEVICES": "0"},  # for the one trainer of each host
        axolotl_training_files=sources,
    )
    (made / "config.yml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    report = two_idle_gpus((CAPTURED / "nvidia_smi_h100_575.xml").read_text())
    for host in fleet.names:
        script = f'cat >{REPORT} <<"END"\n{report}\nEND\nprintf "#!/bin/sh\\ncat {REPORT}\\n" >{SMI}; chmod 755 {SMI}'
        bare_hosts.execute(host, "sh", "-c", script)
        bare_hosts.execute(host, "mount", "-o", "remount,size=2g", "/dev/shm")  # as a machine has it, not a container
    fleet.provision()
    return fleet


def findings(fleet: HostFleet, *options: str) -> list[dict[str, Any]]:
    """What preflight finds."""
    fleet.run("preflight", *options)
    artifact = fleet.artifact("preflight")
    assert not artifact["unfinished"]
    return list(artifact["findings"])


class Plant(NamedTuple):
    """What is planted on host1, how it is taken back, and the one finding that must come of it."""

    id: str
    plant: str
    restore: str
    expected: str
    found: str
    severity: str = "error"


def swapped(path: str, edit: str) -> tuple[str, str]:
    """Change a file, and put it back with its times."""
    return f"cp -a {path} /root/kept && {edit}", f"cp -a /root/kept {path}"


PLANTS = {
    "another commit": Plant(
        "commit",
        f"{GIT} commit -qm x --allow-empty",
        f"{GIT} reset -q --hard HEAD~",
        "source at commit ",
        "source at commit ",
    ),
    "an edited source file": Plant(
        "source_edited",
        *swapped(
            f"{ROOT}/current/source/axolotl/cli/main.py", f"echo '# x' >>{ROOT}/current/source/axolotl/cli/main.py"
        ),
        "the files of the commit, unedited",
        "axolotl/cli/main.py",
    ),
    "an edited file of a package": Plant(
        "package_edited",
        f"sed -i 's/^x = /y = /' {SITE}/alpha/__init__.py",
        f"sed -i 's/^y = /x = /' {SITE}/alpha/__init__.py",
        "the files of each package as installed",
        "alpha: alpha/__init__.py",
    ),
    "another version of a package": Plant(
        "packages",
        f"mv {SITE}/alpha-1.0.dist-info {SITE}/alpha-1.1.dist-info",
        f"mv {SITE}/alpha-1.1.dist-info {SITE}/alpha-1.0.dist-info",
        "exactly the packages of the lock",
        "alpha 1.1 instead of 1.0",
    ),
    "one key of the config": Plant(
        "config",
        *swapped(f"{WORK}/config.yml", f"sed -i 's/learning_rate: 0.001/learning_rate: 0.01/' {WORK}/config.yml"),
        "learning_rate: 0.001",
        "learning_rate: 0.01",
    ),
    "a comment in the config": Plant(
        "config_form",
        *swapped(f"{WORK}/config.yml", f"echo '# tuned' >>{WORK}/config.yml"),
        "byte for byte",
        "the same keys and values in another form",
        "warning",
    ),
    "the config at another path": Plant(
        "config_missing",
        f"mv {WORK}/config.yml {WORK}/train.yml",
        f"mv {WORK}/train.yml {WORK}/config.yml",
        f"the config at {WORK}/config.yml",
        f"it lies in {WORK}/train.yml",
    ),
    "another Python": Plant(
        "python",
        f"cd {ROOT}/current/venv/bin && mv python python.kept && printf '#!/bin/sh\\necho 3.11.99\\n' >python"
        " && chmod 755 python",
        f"cd {ROOT}/current/venv/bin && mv python.kept python",
        "Python 3.11.",
        "Python 3.11.99",
    ),
    "/etc/nccl.conf": Plant(
        "nccl_settings",
        "echo NCCL_ALGO=Ring >/etc/nccl.conf",
        "rm /etc/nccl.conf",
        "NCCL_ALGO not set",
        "NCCL_ALGO=Ring (/etc/nccl.conf)",
    ),
    "a variable of NCCL": Plant(
        "nccl_settings",
        "echo NCCL_NTHREADS=256 >~train/.nccl.conf",
        "rm ~train/.nccl.conf",
        "NCCL_NTHREADS not set",
        "NCCL_NTHREADS=256 (/home/train/.nccl.conf)",
    ),
    "a flipped byte in a shard": Plant(
        "training_file",
        *swapped(
            f"{WORK}/data/shard-2.jsonl", f"printf X | dd of={WORK}/data/shard-2.jsonl bs=1 seek=700 conv=notrunc"
        ),
        "data as on the controller",
        "different 1: shard-2.jsonl",
    ),
    "a missing shard": Plant(
        "training_file",
        f"mv {WORK}/data/shard-3.jsonl /root/kept",
        f"mv /root/kept {WORK}/data/shard-3.jsonl",
        "(4 files",
        "missing 1: shard-3.jsonl",
    ),
    "an extra shard": Plant(
        "training_file",
        f"touch {WORK}/data/shard-4.jsonl",
        f"rm {WORK}/data/shard-4.jsonl",
        "(4 files",
        "extra 1: shard-4.jsonl",
    ),
    "another tokenizer": Plant(
        "training_file",
        *swapped(f"{WORK}/tokenizer/tokenizer.json", f"sed -i s/1.0/1.1/ {WORK}/tokenizer/tokenizer.json"),
        "tokenizer as on the controller",
        "different 1: tokenizer.json",
    ),
    "a truncated model": Plant(
        "training_file",
        *swapped(f"{WORK}/model/model.safetensors", f"truncate -s 30000 {WORK}/model/model.safetensors"),
        "model as on the controller",
        "different 1: model.safetensors",
    ),
    "stale prepared data": Plant(
        "prepared_stale",
        f"d={WORK}/prepared/0123456789abcdef0123456789abcdef; mkdir -p $d; echo rows >$d/data-00000-of-00001.arrow;"
        """ echo '{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}' >$d/state.json;"""
        " touch -d 2020-01-01 $d/*",
        f"rm -r {WORK}/prepared",
        "",
        "0123456789abcdef0123456789abcdef",
    ),
    "another driver": Plant(
        "driver",
        f"cp {REPORT} /root/kept && sed -i 's|<driver_version>.*<|<driver_version>590.44.01<|' {REPORT}",
        f"cp /root/kept {REPORT}",
        "NVIDIA driver ",
        "NVIDIA driver 590.44.01",
    ),
    "a GPU fewer": Plant(
        "gpu_count",
        f"cp {REPORT} /root/kept && awk '/<gpu id/ && !n++ {{gone=1}} !gone; /<.gpu>/ {{gone=0}}' /root/kept >{REPORT}",
        f"cp /root/kept {REPORT}",
        "GPUs: 2 x NVIDIA",
        "GPUs: 1 x NVIDIA",
    ),
    "ECC off": Plant(
        "gpu_ecc",
        f"cp {REPORT} /root/kept && sed -i 's|<current_ecc>Enabled<|<current_ecc>Disabled<|' {REPORT}",
        f"cp /root/kept {REPORT}",
        "ECC Enabled",
        "ECC Disabled",
    ),
    "a small /dev/shm": Plant(
        "shm_small",
        "mount -o remount,size=64m /dev/shm",
        "mount -o remount,size=2g /dev/shm",
        "/dev/shm",
        "64",
        "warning",
    ),
    "a small disk": Plant(
        "disk_low",
        f"mkdir -p {WORK}/out && mount -t tmpfs -o size=100m tmpfs {WORK}/out",
        f"umount {WORK}/out && rmdir {WORK}/out",
        "at least 10.0 GiB free where the run writes its checkpoints",
        f"at {WORK}/out",
    ),
    "an nvidia-smi that hangs": Plant(
        "devices",
        f"cp -a {SMI} /root/kept && printf '#!/bin/sh\\nexec sleep 600\\n' >{SMI}",
        f"cp -a /root/kept {SMI}",
        "at least 1 GPUs",
        "did not end in time",
    ),
}


@pytest.mark.parametrize("name", PLANTS)
def test_what_is_planted_on_one_host_is_named_there_alone(bed: Bed, fleet: HostFleet, name: str) -> None:
    plant = PLANTS[name]
    bed.execute("host1", "sh", "-ec", plant.plant)
    try:
        found = findings(fleet)
    finally:
        bed.execute("host1", "sh", "-ec", plant.restore)
    assert [(one["id"], one["hosts"], one["severity"]) for one in found] == [(plant.id, ["host1"], plant.severity)]
    assert plant.expected in found[0]["expected"]
    assert plant.found in found[0]["found"]
    assert found[0]["remedy"]


def test_a_clean_fleet_has_no_finding_however_often_it_is_looked_at(fleet: HostFleet) -> None:
    assert [findings(fleet) for _run in range(CLEAN_RUNS)] == [[]] * CLEAN_RUNS


def test_two_names_for_one_machine(fleet: HostFleet) -> None:
    inventory = fleet.folder / "hosts.yml"
    kept = inventory.read_text()
    hosts = yaml.safe_load(kept)
    nodes = hosts["all"]["children"]["axolotl_nodes"]["hosts"]
    nodes["host2"] = dict(nodes["host1"])
    inventory.write_text(yaml.safe_dump(hosts))
    try:
        found = [(one["id"], one["hosts"]) for one in findings(fleet)]
    finally:
        inventory.write_text(kept)
    assert found[0] == ("machine_twice", ["host1", "host2"])


@pytest.fixture
def record(fleet: HostFleet) -> Iterator[Path]:
    path = fleet.folder / "parity.json"
    yield path
    path.unlink(missing_ok=True)


def test_the_record_tells_what_all_have_changed(bed: Bed, fleet: HostFleet, record: Path) -> None:
    option = ("-e", f"parity_record={record}")
    assert findings(fleet, *option) == []
    text = record.read_text()
    for host in fleet.names:
        bed.execute(host, "sh", "-c", "echo NCCL_ALGO=Ring >/etc/nccl.conf")
    try:
        (finding,) = findings(fleet, *option)
    finally:
        for host in fleet.names:
            bed.execute(host, "rm", "/etc/nccl.conf")
    assert (finding["id"], finding["severity"], finding["hosts"]) == ("drift", "warning", fleet.names)
    assert "NCCL_ALGO" in finding["found"]
    assert record.read_text() == text


def test_what_is_accepted_stands_there_with_its_reason(bed: Bed, fleet: HostFleet) -> None:
    accepted = '{"parity_exceptions": {"nccl_settings": {"severity": "waived", "reason": "a trial"}}}'
    bed.execute("host1", "sh", "-c", "echo NCCL_ALGO=Ring >/etc/nccl.conf")
    try:
        done = fleet.run("preflight", "-e", accepted)
    finally:
        bed.execute("host1", "rm", "/etc/nccl.conf")
    assert done.returncode == 0
    assert "accepted: a trial" in done.stdout
    assert "1 waived" in done.stdout
