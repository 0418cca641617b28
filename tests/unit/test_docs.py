# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation says what the code does: its tables are held against the code, row by row."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import watch_rules
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import evidence, exceptions, settings, verdict
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import Finding

PROJECT = Path(__file__).resolve().parents[2]
DOCS = PROJECT / "docs"
ROLES = sorted(path.name for path in (PROJECT / "roles").iterdir() if path.is_dir())
SOURCES = [*(PROJECT / "plugins/plugin_utils").glob("*.py"), *(PROJECT / "plugins/action").glob("*.py")]


def tables(path: Path) -> dict[str, list[list[str]]]:
    """The cells of each table's rows, by the heading above it; the head of the table is left out."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|"):
            found.setdefault(heading, []).append([cell.strip() for cell in line.strip("|").split(" |")])
    return {heading: rows[2:] for heading, rows in found.items()}


def codes(rows: list[list[str]]) -> list[str]:
    """The first cell of each row, which is a name in code form."""
    return [row[0].strip("`") for row in rows]


# Settings


def setting_row(setting: settings.Setting) -> list[str]:
    """A setting's row as docs/settings.md must have it."""
    takes = ""
    for wrong in (object(), " "):  # the second passes as a text, so that more is said of what kind of text it must be
        try:
            setting.parse(wrong)
        except settings.InvalidValue as error:
            takes = str(error).partition(":")[0]
    if setting.default is settings.REQUIRED:
        default = "required"
    else:
        default = "" if setting.default is None else f"`{json.dumps(setting.default)}`"
    return [f"`{setting.name}`", takes, default, "node" if setting.per_node else "fleet", setting.summary]


def settings_by_group() -> dict[str, list[str]]:
    """Names of the settings under the comment that groups them in the code."""
    groups: dict[str, list[str]] = {}
    source = (PROJECT / "plugins/plugin_utils/settings.py").read_text().partition("\nSETTINGS")[2]
    names = (
        r"^    # (?P<group>.+)$|\"(?P<name>(?:axolotl|gpufleet|infiniband|parity|training_files)_\w+|rerun|smoke)\","
    )
    for match in re.finditer(names, source, re.MULTILINE):
        if match["group"]:
            groups[match["group"]] = []
        elif groups:
            groups[list(groups)[-1]].append(match["name"])
    return groups


def test_settings_are_documented_row_by_row() -> None:
    by_name = {setting.name: setting_row(setting) for setting in settings.SETTINGS}
    expected = {group: [by_name[name] for name in names] for group, names in settings_by_group().items()}
    assert sum(map(len, expected.values())) == len(settings.SETTINGS)
    assert tables(DOCS / "settings.md") == expected


# Findings

# Functions that pass an id on; each literal id that they are given is found where they are called, or in a tuple.
PASSED_ON = {"_read_one", "provisioned", "_equal", "_at_least", "_each_gpu"}


# What makes a finding, or a row of rules that does, to the severity that it gives where nothing else is said.
DEFAULT = {"Finding": "error", "Row": "error", "GpuRule": "warning"}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call that makes a finding or a row of rules, with the name of the function that it stands in."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    inside = {id(node): function.name for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in DEFAULT:
            yield inside.get(id(node), ""), node


def literals(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def severity(call: ast.Call) -> str:
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    said = {node.id.lower() for node in arguments if isinstance(node, ast.Name) and node.id in {"ERROR", "WARNING"}}
    assert isinstance(call.func, ast.Name)
    return said.pop() if said else DEFAULT[call.func.id]


def findings_in_code() -> dict[str, set[str]]:
    """Id of every finding that the code can make, with its severities."""
    found: dict[str, set[str]] = {}
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        for _function, call in calls(tree):
            for name in literals(call.args[0]):
                found.setdefault(name, set()).add(severity(call))
        for function_node in ast.walk(tree):
            if isinstance(function_node, ast.FunctionDef) and function_node.name in PASSED_ON:
                for node in ast.walk(function_node):
                    for name in literals(node.elts[0]) if isinstance(node, ast.Tuple) and node.elts else ():
                        found.setdefault(name, set()).add("error")
    return found


def test_ids_are_literals_where_findings_are_made() -> None:
    """What this file can't read it can't hold against the documentation."""
    for path in SOURCES:
        for function, call in calls(ast.parse(path.read_text())):
            assert function in PASSED_ON or list(literals(call.args[0])), (
                f"{path.name}, line {call.lineno}: give the id as a text, or add {function} to PASSED_ON"
            )


def test_findings_are_documented() -> None:
    rows = [row for table in tables(DOCS / "findings.md").values() for row in table]
    documented = {row[0].strip("`"): set(row[1].split(", ")) for row in rows}
    assert len(documented) == len(rows), "an id stands twice"
    assert documented == findings_in_code()
    assert all(all(row) and len(row) == 4 for row in rows)


# Artifacts and supervision


def test_fields_of_the_artifact_are_documented() -> None:
    documented = tables(DOCS / "artifacts.md")
    assert set(codes(documented["The verdict"])) == set(verdict.begun("launch", False, {}))
    assert codes(documented["A finding"]) == list(Finding("id", (), "", "", "").as_dict())


def test_evidence_of_a_launch_is_documented() -> None:
    plan = {"nproc_per_node": 1, "master_port": 1, "watch_port": 2, "accelerator": "cpu", "nodes": {}}
    judged = set(evidence.summarise(plan, {}, {}))
    assert set(codes(tables(DOCS / "artifacts.md")["Evidence of a launch"])) == judged | {
        "agreed",
        "fingerprints",
        "mesh",
        "supervisors",
    }


def test_words_of_the_watch_are_documented() -> None:
    documented = tables(DOCS / "supervision.md")
    wr = watch_rules
    assert codes(documented["Phases"]) == [wr.JOINING, wr.RUNNING, wr.ENDING, wr.ENDED]
    assert codes(documented["Outcomes"]) == [wr.FINISHED, wr.FAILED, wr.STOPPED, wr.CALLED_OFF]
    assert codes(documented["Orders"]) == [wr.WAIT, wr.GO, wr.END]


def test_every_verb_is_in_the_readme() -> None:
    verbs = {path.stem for path in (PROJECT / "playbooks").glob("*.yml")} - {"open"}
    assert set(codes(tables(PROJECT / "README.md")["The verbs"])) == verbs


# Words and links


def pages() -> list[Path]:
    return [PROJECT / "README.md", *sorted(DOCS.glob("*.md")), *sorted((PROJECT / "roles").glob("*/README.md"))]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(PROJECT)))
def test_variables_in_the_text_exist(page: Path) -> None:
    known = {setting.name for setting in settings.SETTINGS} | {settings.GROUP, "gpufleet_plan", "gpufleet_run_id"}
    known |= {"axolotl_brings", "axolotl_packed", "axolotl_delivered"}  # what roles leave for the play
    for role in ROLES:
        known.update(*(entry.get("options", {}) for entry in specs(role).values()))
    assert set(re.findall(r"\b(?:axolotl|gpufleet|infiniband)_[a-z_]+\b", page.read_text())) <= known


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target.partition("#")[0]).exists(), target


# Roles


def specs(role: str) -> dict[str, Any]:
    text = (PROJECT / "roles" / role / "meta/argument_specs.yml").read_text()
    return dict(yaml.safe_load(text)["argument_specs"])


@pytest.mark.parametrize("role", ROLES)
def test_a_roles_defaults_are_those_of_its_spec(role: str) -> None:
    path = PROJECT / "roles" / role / "defaults/main.yml"
    defaults = yaml.safe_load(path.read_text()) if path.exists() else {}
    for entry in specs(role).values():
        specified = {name: option["default"] for name, option in entry["options"].items() if "default" in option}
        assert specified.items() <= defaults.items()
    assert set(defaults) <= {name for entry in specs(role).values() for name in entry["options"]}


@pytest.mark.parametrize("role", ROLES)
def test_a_roles_readme_names_its_variables_and_entry_points(role: str) -> None:
    page = PROJECT / "roles" / role / "README.md"
    assert page.read_text().startswith(f"# gpufleet.axolotl.{role}\n")
    assert re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE) == [
        "Requirements",
        "Variables",
        "What it leaves",
        "Check mode",
        "Example",
    ]
    options = {name: option for entry in specs(role).values() for name, option in entry["options"].items()}
    documented = {row[0].strip("`"): (row[1], "required" in row[2]) for row in tables(page)["Variables"]}
    assert documented == {name: (option["type"], option.get("required", False)) for name, option in options.items()}
    assert all(f"| `{entry}` |" in page.read_text() for entry in specs(role) if entry != "main")
    assert all((PROJECT / "roles" / role / "tasks" / f"{entry}.yml").exists() for entry in specs(role))


def test_what_preflight_finds_can_be_accepted() -> None:
    """But for what makes a launch impossible, whoever accepts it."""
    folder = PROJECT / "plugins/plugin_utils"
    others = {f"rules_{name}" for name in ("run", "steps")}
    paths = [path for path in folder.glob("*.py") if re.match("rules_|mesh_", path.stem) and path.stem not in others]
    found = {
        name for path in paths for _place, call in calls(ast.parse(path.read_text())) for name in literals(call.args[0])
    }
    assert (found | {"drift"}) - exceptions.IMPOSSIBLE == exceptions.ACCEPTABLE
    assert found >= exceptions.IMPOSSIBLE
