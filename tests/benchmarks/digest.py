# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What it costs to digest shards and small files, held against what is there without us.

python -m tests.benchmarks.digest [--size GB] [--files N] [--repeat N] [--folder PATH]

It writes shards and small files into a temporary folder, which it takes away again. All is read from the page cache.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.digest_algorithms import (
    AlgorithmMissing,
    hash_function,
)
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.digest_record import MARGIN_NS
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.digest_cache import DigestCache
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.file_digests import TreeReading, read_tree

from .ratios import Ratio, best_of, print_table

GB = 10**9
SHARDS = 16
BLOCK = 1 << 20


def roomy_folder(needed: int) -> str | None:
    """Memory where it has the room, since no disk disturbs there; else wherever temporary files go."""
    for folder in ("/dev/shm", tempfile.gettempdir()):
        if os.path.isdir(folder) and shutil.disk_usage(folder).free > needed * 1.2:
            return folder
    return None


def write_shards(folder: Path, size: int) -> list[str]:
    """Write files of equal size; hashing costs the same whatever they hold."""
    folder.mkdir()
    block, paths = random.randbytes(BLOCK), []
    for number in range(SHARDS):
        path = folder / f"model-{number:05d}-of-{SHARDS:05d}.safetensors"
        with path.open("wb") as stream:
            for _block in range(max(1, size // SHARDS // BLOCK)):
                stream.write(block)
        paths.append(str(path))
    return paths


def write_small_files(folder: Path, count: int) -> None:
    """Write sources of 1 to 4 KiB, a hundred to a folder."""
    for number in range(count):
        below = folder / f"{number // 100:04d}"
        below.mkdir(parents=True, exist_ok=True)
        (below / f"{number:06d}.py").write_bytes(random.randbytes(random.randint(1024, 4096)))


def one_thread(paths: list[str]) -> None:
    for path in paths:
        with open(path, "rb") as stream:
            hashlib.file_digest(stream, "sha256")


def bare_manifest(folder: Path) -> list[tuple[str, str]]:
    """What anybody would write in five lines; it notices nothing that changes or can't be read."""
    found = []
    for where, _folders, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            with open(path, "rb") as stream:
                found.append((path, hashlib.sha256(stream.read()).hexdigest()))
    return sorted(found)


def whole(reading: TreeReading) -> TreeReading:
    if reading.problems:
        raise RuntimeError("; ".join(reading.problems))
    return reading


def shard_ratios(folder: Path, size: int, repeat: int) -> list[Ratio]:
    paths = write_shards(folder / "shards", size)
    tree, stores = str(folder / "shards"), folder / "stores"
    size = sum(map(os.path.getsize, paths))
    time.sleep(MARGIN_NS / 10**9 + 0.1)  # the digest of a file that was just written is not kept

    def first() -> None:
        shutil.rmtree(stores, ignore_errors=True)
        whole(read_tree(tree, cache=DigestCache(str(stores))))

    def again() -> None:
        if whole(read_tree(tree, cache=DigestCache(str(stores)))).cached_size != size:
            raise RuntimeError("what was kept of the shards was not used")

    tasks: dict[str, Callable[[], object]] = {
        "one thread": lambda: one_thread(paths),
        "ours": lambda: whole(read_tree(tree)),
        "first": first,
        "again": again,
    }
    if shutil.which("sha256sum"):
        tasks["sha256sum"] = lambda: subprocess.run(["sha256sum", *paths], check=True, stdout=subprocess.DEVNULL)
    try:
        hash_function("blake3")
        tasks["blake3"] = lambda: whole(read_tree(tree, algorithm="blake3"))
    except AlgorithmMissing as error:
        print(f"no figure for blake3: {error}")
    costs = best_of(repeat, tasks)
    rate = {name: f"{size / GB / spent.wall:.2f} GB/s" for name, spent in costs.items()}
    busy = {name: f"{size / GB / spent.processor:.2f} GB/s" for name, spent in costs.items() if name != "sha256sum"}

    def times_faster(name: str, other: str, target: str) -> Ratio:
        ratio = costs[other].wall / costs[name].wall
        return Ratio(f"shards: bytes/s, {name} / {other}", ratio, target, f"{rate[name]} / {rate[other]}")

    ratios = [
        # Per second that a core worked for us: where others use the machine too, cores must be waited for.
        Ratio(
            "shards: bytes/s of a core, ours / one thread",
            costs["one thread"].processor / costs["ours"].processor,
            ">= 0.95",
            f"{busy['ours']} / {busy['one thread']}",
        ),
        times_faster("ours", "one thread", ""),
    ]
    if "sha256sum" in costs:
        ratios.append(times_faster("ours", "sha256sum", ">= 3.5"))
    if "blake3" in costs:
        ratios.append(times_faster("blake3", "one thread", ""))
    first_time, second_time = costs["first"].wall, costs["again"].wall
    detail = f"{second_time * 1000:.1f} ms / {first_time * 1000:.0f} ms"
    return [*ratios, Ratio("shards: seconds, kept digests / first time", second_time / first_time, "<= 0.05", detail)]


def small_file_ratios(folder: Path, count: int, repeat: int) -> list[Ratio]:
    tree = folder / "small"
    write_small_files(tree, count)
    costs = best_of(repeat, {"bare": lambda: bare_manifest(tree), "ours": lambda: whole(read_tree(str(tree)))})
    ours, bare = costs["ours"].wall, costs["bare"].wall
    detail = f"{ours * 1000:.0f} ms / {bare * 1000:.0f} ms"
    return [Ratio(f"{count:,} small files: seconds, ours / os.walk and hashlib", ours / bare, "<= 1.2", detail)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="digest", description="What it costs to digest shards and small files.")
    parser.add_argument("--size", type=float, default=4, help="GB of shards")
    parser.add_argument("--files", type=int, default=20_000, help="how many small files")
    parser.add_argument("--repeat", type=int, default=5, help="the best of how many times counts")
    parser.add_argument("--folder", help="where to write")
    options = parser.parse_args()
    size = int(options.size * GB)
    where = options.folder or roomy_folder(size + options.files * 4096)
    if where is None:
        print(f"no temporary folder has room for {options.size:g} GB: name one with --folder", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="digest-", dir=where) as name:
        ratios = [
            *small_file_ratios(Path(name), options.files, 4 * options.repeat),  # short, so that more is disturbed
            *shard_ratios(Path(name), size, options.repeat),
        ]
    print_table(ratios)
    return 0


if __name__ == "__main__":
    sys.exit(main())
