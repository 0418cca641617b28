# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller's files must be."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit.fleets import inventory, values_of

from ansible_collections.gpufleet.axolotl.plugins.action.launch_plan import _doca_key

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
