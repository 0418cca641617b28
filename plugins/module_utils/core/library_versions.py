# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions of NVIDIA's libraries, which say them as one number each; and the CUDA that a torch was built for."""

from __future__ import annotations

import re


def nccl(number: int) -> str:
    """2.28.9 for 22809; up to 2.8 the major version stood before three digits (NCCL_VERSION in nccl.h)."""
    return _three(number, 1000 if number < 10000 else 10000)


def cudnn(number: int) -> str:
    """9.10.2 for 91002; before 9 the major version stood before three digits (CUDNN_VERSION in cudnn_version.h)."""
    return _three(number, 1000 if number < 90000 else 10000)


def cuda_runtime(number: int) -> str:
    """12.8 for 12080 (CUDART_VERSION in cuda_runtime_api.h)."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _three(number: int, factor: int) -> str:
    return f"{number // factor}.{number % factor // 100}.{number % 100}"


def torch_cuda(text: str) -> str | None:
    """The CUDA in torch/version.py; None for a torch without.

    It is a line ``cuda: Optional[str] = '13.0'``, in older releases without the type.
    """
    found = re.search(r"^cuda\b[^=\n]*=\s*['\"]([0-9.]{1,16})['\"]", text, re.MULTILINE)
    return found.group(1) if found else None


def parts(version: str | None) -> tuple[int, ...]:
    """A version as numbers that compare; empty where it is none."""
    if not isinstance(version, str) or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})*", version):
        return ()
    return tuple(int(part) for part in version.split("."))
