# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Package managers, by programs of their names that answer as they do; tests/hosts has the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import packages
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.packages import Dpkg, RepositoryError, Rpm


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that is all of PATH, but for what the scripts themselves need."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_only_what_is_installed_in_full_counts(answers: Path) -> None:
    said = (
        "installed rdma-core 44.0-2\nconfig-files perftest 4.5\ninstalled infiniband-diags 44.0-2\nhalf-installed x 1"
    )
    program(answers, "dpkg-query", f"cat <<'END'\n{said}\nEND")
    assert Dpkg().installed() == {"rdma-core": "44.0-2", "infiniband-diags": "44.0-2"}


def test_rpms_have_an_epoch_always(answers: Path) -> None:
    program(answers, "rpm", "printf 'rdma-core 0:48.0-1.el9\\nkernel 0:5.14.0-1.el9\\nkernel 0:5.14.0-2.el9\\n'")
    assert Rpm().installed() == {"rdma-core": "0:48.0-1.el9", "kernel": "0:5.14.0-2.el9"}


def test_locks_are_read_as_versionlock_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "versionlock.list"
    monkeypatch.setattr(packages, "VERSION_LOCKS", str(path))
    assert Rpm().held() == []
    lines = [
        "# Added on Fri",
        "doca-ofed-0:3.2.1-0.1.8.*",
        "!kernel-0:5.14.0-1.el9.*",
        "",
        "mlnx-ofa_kernel-0:25.10-1.*",
    ]
    path.write_text("\n".join(lines) + "\n")
    assert Rpm().held() == ["doca-ofed", "mlnx-ofa_kernel"]


def test_apt_is_asked_in_folders_of_its_own_with_this_key_alone(answers: Path) -> None:
    """The stand-in checks what it was given, and leaves an index as apt does."""
    program(
        answers,
        "apt-get",
        """for word in "$@"; do case $word in
            Dir::State::Lists=*) lists=${word#*=} ;;
            Dir::Etc::SourceList=*) sources=${word#*=} ;;
        esac; done
        key=$(sed 's/.*signed-by=\\([^]]*\\)].*/\\1/' "$sources")
        [ "$(cat "$key")" = KEY ] && grep -q '] http://repo/ ./$' "$sources" || exit 9
        for version in 3.2.1-1 3.2.0-1; do printf 'Package: doca-ofed\\nVersion: %s\\n\\n' $version; done \\
            >"$lists/repo_Packages"
        """,
    )
    assert Dpkg().offered("http://repo/", "KEY") == {"doca-ofed": ["3.2.1-1", "3.2.0-1"]}


def test_what_apt_says_of_a_wrong_key_is_passed_on(answers: Path) -> None:
    said = (
        "Get:1 http://repo ./ InRelease\\nErr:1 http://repo\\nE: The repository is not signed.\\nN: see apt-secure(8)"
    )
    program(answers, "apt-get", f"printf '{said}\\n' >&2; exit 100")
    with pytest.raises(RepositoryError, match=r"^E: The repository is not signed\.$"):
        Dpkg().offered("http://repo/", "KEY")


DNF = """case "$*" in
*repoquery*) printf 'doca-ofed 0:3.2.1-1\\nperftest 0:2510-1\\n' ;;
*download*)
    for word in "$@"; do case $word in
        --destdir=*) mkdir -p "${word#*=}"; : >"${word#*=}/a.rpm" ;;
    esac; done ;;
esac"""


@pytest.mark.parametrize(
    ("said", "accepted"),
    [
        ("Header V4 RSA/SHA256 Signature, key ID e0e6d6a2: OK\\n    Header SHA256 digest: OK", True),
        ("Header V4 RSA/SHA256 Signature, key ID e0e6d6a2: NOKEY", False),
        # rpm exits with 0 for a package that nobody signed
        ("Header SHA256 digest: OK\\n    MD5 digest: OK", False),
    ],
)
def test_a_package_must_be_signed_with_the_key(answers: Path, said: str, accepted: bool) -> None:
    program(answers, "dnf", DNF)
    program(answers, "rpmkeys", f"case $3 in --checksig) printf 'a.rpm:\\n    {said}\\n' ;; esac")
    if accepted:
        found = Rpm().offered("http://repo/", "KEY", "doca-ofed")
        assert found == {"doca-ofed": ["0:3.2.1-1"], "perftest": ["0:2510-1"]}
    else:
        with pytest.raises(RepositoryError, match=r"a\.rpm is not signed with this key"):
            Rpm().offered("http://repo/", "KEY", "doca-ofed")
