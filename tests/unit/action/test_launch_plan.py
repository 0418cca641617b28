# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller's files must be."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit.fleets import inventory, values_of

from ansible_collections.gpufleet.axolotl.plugins.action.launch_plan import _doca_key, _read_config
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import Finding

KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDME\n-----END PGP PUBLIC KEY BLOCK-----\n"


@pytest.mark.parametrize(
    ("provider", "content", "found"),
    [
        ("doca", KEY, None),
        ("doca", None, "no such file or directory"),
        ("doca", "<html>404</html>", "something else"),
        ("inbox", None, None),
    ],
)
def test_the_key_of_doca_is_a_key(tmp_path: Path, provider: str, content: str | None, found: str | None) -> None:
    path = tmp_path / "key.asc"
    if content is not None:
        path.write_text(content)
    variables = inventory(1)
    variables["node0"].update(infiniband_provider=provider, infiniband_doca_key=str(path))
    findings = _doca_key(values_of(variables)["node0"])
    assert [(finding.id, finding.found) for finding in findings] == ([("doca_key_missing", found)] if found else [])


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("learning_rate: 0.1", None),
        ("a: &a [*a]", "more than 32 levels"),
        ("a: " + "9" * 5000, "Exceeds the limit"),
        ("[" * 5000, "recursion"),
    ],
)
def test_a_config_that_no_training_has_is_a_finding(tmp_path: Path, content: str, found: str | None) -> None:
    path = tmp_path / "train.yml"
    path.write_text(content)
    findings: list[Finding] = []
    config, text = _read_config(str(path), findings)
    assert text == content.encode()
    if found is None:
        assert (config, findings) == ({"learning_rate": 0.1}, [])
    else:
        assert [finding.id for finding in findings] == ["config_invalid"]
        assert found in findings[0].found
        assert config == {}
