# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NCCL's settings come to be as src/misc/param.cc makes them."""

from __future__ import annotations

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import nccl_config

NEW = (2, 30, 7)


def test_the_account_has_a_home_until_2_30_and_then_the_environment() -> None:
    environment = {"HOME": "/opt/axolotl/home"}
    assert nccl_config.paths(environment, "/home/trainer") == ["/home/trainer/.nccl.conf", "/etc/nccl.conf"]
    assert nccl_config.paths(environment, "/home/trainer", (2, 29, 7)) == ["/home/trainer/.nccl.conf", "/etc/nccl.conf"]
    assert nccl_config.paths(environment, "/home/trainer", NEW) == ["/opt/axolotl/home/.nccl.conf", "/etc/nccl.conf"]
    assert nccl_config.paths({}, "/home/trainer", NEW) == ["/etc/nccl.conf"]
    assert nccl_config.paths({}, None) == ["/etc/nccl.conf"]


def test_a_file_that_is_named_stands_in_for_the_one_at_home() -> None:
    assert nccl_config.paths({"NCCL_CONF_FILE": "/srv/nccl.conf"}, "/home/x") == ["/srv/nccl.conf", "/etc/nccl.conf"]
    assert nccl_config.paths({"NCCL_CONF_FILE": ""}, "/home/x")[0] == "/home/x/.nccl.conf"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("NCCL_IB_TIMEOUT=22", [("NCCL_IB_TIMEOUT", "22")]),
        ("NCCL_IB_HCA==mlx5_0,mlx5_1", [("NCCL_IB_HCA", "=mlx5_0,mlx5_1")]),
        ("# NCCL_DEBUG=INFO", []),
        (" # NCCL_DEBUG=INFO", [(" # NCCL_DEBUG", "INFO")]),  # only the first column counts
        ("NCCL_DEBUG INFO", []),
        ("NCCL_DEBUG=", [("NCCL_DEBUG", "")]),
        ("NCCL_DEBUG = INFO", [("NCCL_DEBUG ", " INFO")]),
        ("NCCL_DEBUG=INFO # why", [("NCCL_DEBUG", "INFO # why")]),
        ("", []),
    ],
)
def test_lines_are_taken_as_nccl_takes_them(line: str, found: list[tuple[str, str]]) -> None:
    assert nccl_config.parse(f"{line}\n") == found
    assert nccl_config.parse(line) == found


def test_a_carriage_return_was_part_of_the_value_until_2_30() -> None:
    text = "NCCL_IB_HCA==mlx5_0\r\n"
    assert nccl_config.effective({}, [("/etc/nccl.conf", text)])["NCCL_IB_HCA"]["value"] == "=mlx5_0\\r"
    assert nccl_config.effective({}, [("/etc/nccl.conf", text)], NEW)["NCCL_IB_HCA"]["value"] == "=mlx5_0"


def test_who_comes_first_wins() -> None:
    environment = {"NCCL_A": "environment", "NCCL_EMPTY": "", "HOME": "/x", "FI_PROVIDER": "efa"}
    files = [
        ("/home/x/.nccl.conf", "NCCL_A=home\nNCCL_B=home\nNCCL_B=again\nFI_PROVIDER=verbs\n"),
        ("/none", None),
        ("/etc/nccl.conf", "NCCL_A=etc\nNCCL_B=etc\nNCCL_C=etc\nNCCL_EMPTY=etc\nUCX_TLS=rc\nHOME=/y\n NCCL_D=no\n"),
    ]
    assert nccl_config.effective(environment, files) == {
        "NCCL_A": {"value": "environment", "source": "environment"},
        "NCCL_B": {"value": "home", "source": "/home/x/.nccl.conf"},
        "NCCL_C": {"value": "etc", "source": "/etc/nccl.conf"},
        "NCCL_EMPTY": {"value": "", "source": "environment"},
        "UCX_TLS": {"value": "rc", "source": "/etc/nccl.conf"},  # NCCL sets whatever the file names
    }


def test_what_is_odd_is_short_visible_and_no_secret() -> None:
    text = f"NCCL_A={'x' * 5000}\nNCCL_B=\x1b[31m\nHF_TOKEN=verysecret\nNCCL_C=hf_abcdefghijklmnopqrstuvwxyz\n"
    found = {name: said["value"] for name, said in nccl_config.effective({}, [("/f", text)]).items()}
    assert found["NCCL_A"] == "x" * nccl_config.MAX_VALUE
    assert found["NCCL_B"] == "\\x1b[31m"
    assert "verysecret" not in found["HF_TOKEN"]
    assert "hf_abc" not in found["NCCL_C"]


def test_a_file_with_endless_settings_is_cut() -> None:
    text = "".join(f"NCCL_X{number}=1\n" for number in range(5000))
    assert len(nccl_config.effective({}, [("/f", text)])) == nccl_config.MAX_SETTINGS
