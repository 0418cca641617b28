# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the owner accepts is no error any more, stands in the report with its reason, and covers nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import findings
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.exceptions import applied, exceptions
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import Finding
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.setting_types import InvalidValue

DRIVER = Finding("driver", ("node1", "node2"), "driver 2", "driver 1", "install it")
KERNEL = Finding("kernel", ("node1",), "kernel 2", "kernel 1", "install it", findings.WARNING)


def accepted(severity: str, name: str = "driver", **more: Any) -> dict[str, Any]:
    return exceptions({name: {"severity": severity, "reason": "until March", **more}})


def test_an_error_becomes_a_warning_with_its_reason() -> None:
    (finding,) = applied([DRIVER], accepted("warning"))
    assert (finding.severity, finding.reason, finding.hosts) == ("warning", "until March", DRIVER.hosts)
    assert findings.errors([finding]) == []
    assert "accepted: until March" in findings.table([finding])


def test_what_is_waived_stands_last_in_the_table() -> None:
    shown = findings.table(applied([DRIVER, KERNEL], accepted("waived")))
    assert [line.split()[0] for line in shown.splitlines() if not line.startswith(" ")] == ["WARNING", "WAIVED"]


def test_an_exception_for_some_hosts_leaves_the_others() -> None:
    error, waived = applied([DRIVER], accepted("waived", hosts=["node2", "node9"]))
    assert (error.severity, error.hosts, error.reason) == ("error", ("node1",), "")
    assert (waived.severity, waived.hosts) == ("waived", ("node2",))
    assert applied([DRIVER], accepted("waived", hosts=["node9"])) == [DRIVER]


def test_nothing_gets_worse_and_nothing_else_is_touched() -> None:
    assert applied([KERNEL], accepted("warning", "kernel")) == [KERNEL]
    assert applied([KERNEL], accepted("waived")) == [KERNEL]
    assert applied([DRIVER], {}) == [DRIVER]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "a mapping"),
        ({"drivr": {"severity": "waived", "reason": "x"}}, "did you mean driver"),
        ({"unreachable": {"severity": "waived", "reason": "x"}}, "no finding of preflight that can be accepted"),
        ({"driver": "waived"}, "a mapping"),
        ({"driver": {"severity": "error", "reason": "x"}}, "severity: warning or waived"),
        ({"driver": {"severity": "waived"}}, "a text that is not empty"),
        ({"driver": {"severity": "waived", "reason": " "}}, "a text that is not empty"),
        ({"driver": {"severity": "waived", "reason": "x", "host": "node1"}}, "severity: warning or waived"),
        ({"driver": {"severity": "waived", "reason": "x", "hosts": "node1"}}, "a list of texts"),
    ],
)
def test_what_is_no_exception(value: Any, said: str) -> None:
    with pytest.raises(InvalidValue, match=said):
        exceptions(value)
