# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What packages a node has, and what a signed repository would give it, told without changing the node.

A repository is asked through the node's own package manager with folders of its own, so that proxies and certificates
are those of the node, and a wrong key, a wrong address or a missing version is known before anything is configured.
"""

from __future__ import annotations

import glob
import os
import shutil
import tempfile

from . import commands
from .commands import CommandResult

QUERY_TIMEOUT = 60.0
REPOSITORY_TIMEOUT = 300.0
"""Seconds; NVIDIA's index is small, but the way to it may be slow."""

_C_LOCALE = {"LC_ALL": "C.UTF-8"}


class RepositoryError(Exception):
    """The repository can't be used; the message is what the package manager said."""


class Dpkg:
    """Debian and Ubuntu."""

    def installed(self) -> dict[str, str]:
        """Package to version, for those that are installed in full."""
        # db:Status-Status exists since dpkg 1.17; ii and hi (held) both say "installed" there.
        form = "${db:Status-Status} ${Package} ${Version}\n"
        return dict(
            words[1:3]
            for words in map(str.split, _output(["dpkg-query", "--show", f"--showformat={form}"]).splitlines())
            if len(words) == 3 and words[0] == "installed"
        )

    def held(self) -> list[str]:
        return _output(["apt-mark", "showhold"]).split()

    def offered(self, url: str, key: str) -> dict[str, list[str]]:
        """Package to versions in a flat repository whose index is signed with the key (armored text).

        Raises:
            RepositoryError: it can't be reached, or is not signed with this key.
        """
        with tempfile.TemporaryDirectory(prefix="gpufleet-") as folder:
            os.chmod(folder, 0o755)  # apt downloads as a user of its own # noqa: S103
            keyring = _write(folder, "key.asc", key)
            sources = _write(folder, "sources.list", f"deb [signed-by={keyring}] {url} ./\n")
            lists = os.path.join(folder, "lists")
            os.makedirs(os.path.join(lists, "partial"))
            options = {
                "Dir::Etc::SourceList": sources,
                "Dir::Etc::SourceParts": "/dev/null",
                "Dir::State::Lists": lists,
                "Dir::Cache::pkgcache": "",
                "Dir::Cache::srcpkgcache": "",
                "Acquire::GzipIndexes": "false",
                "Acquire::Languages": "none",
                "Acquire::AllowInsecureRepositories": "false",
                "APT::Update::Error-Mode": "any",
            }
            flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
            _checked(commands.run(["apt-get", "update", *flags], REPOSITORY_TIMEOUT, env=_C_LOCALE))
            return _index(lists)


class Rpm:
    """RHEL and its rebuilds."""

    def installed(self) -> dict[str, str]:
        """Package to epoch:version-release; of a package that is installed several times (kernels), the last."""
        form = "%{NAME} %{EPOCHNUM}:%{VERSION}-%{RELEASE}\n"
        lines = _output(["rpm", "--query", "--all", f"--queryformat={form}"]).splitlines()
        return dict(words[:2] for words in map(str.split, lines) if len(words) == 2)

    def provides(self, name: str) -> bool:
        """Whether a package is installed that is named with its version and architecture (kernel-devel-...)."""
        return commands.run(["rpm", "--query", "--quiet", name], QUERY_TIMEOUT).rc == 0

    def held(self) -> list[str]:
        """Names in the list of dnf's versionlock plugin, one name-epoch:version-release.arch in a line."""
        try:
            with open(VERSION_LOCKS, encoding="utf-8", errors="replace") as stream:
                lines = [line.strip() for line in stream]
        except OSError:
            return []
        return [line.rsplit("-", 2)[0] for line in lines if line and line[0] not in "#!" and line.count("-") > 1]

    def offered(self, url: str, key: str, proof: str) -> dict[str, list[str]]:
        """Package to epoch:version-release in a repository whose packages are signed with the key.

        Args:
            url: its base.
            key: armored text.
            proof: the package that is downloaded to see who signed it; a small one.

        Raises:
            RepositoryError: it can't be reached, or the package is not signed with this key.
        """
        with tempfile.TemporaryDirectory(prefix="gpufleet-") as folder:
            source = ["--quiet", f"--setopt=cachedir={folder}/cache", f"--repofrompath=gpufleet-probe,{url}"]
            source += ["--repo=gpufleet-probe", "--setopt=gpufleet-probe.gpgcheck=0"]
            form = "%{name} %{epoch}:%{version}-%{release}\n"
            listing = _checked(
                commands.run(["dnf", *source, "repoquery", f"--queryformat={form}"], REPOSITORY_TIMEOUT, env=_C_LOCALE)
            )
            found: dict[str, list[str]] = {}
            for words in map(str.split, listing.splitlines()):
                if len(words) == 2:
                    found.setdefault(words[0], []).append(words[1])
            if proof in found:
                _checked(
                    commands.run(
                        ["dnf", *source, "download", f"--destdir={folder}/rpms", proof],
                        REPOSITORY_TIMEOUT,
                        env=_C_LOCALE,
                    )
                )
                _check_signatures(folder, key)
            return found


VERSION_LOCKS = "/etc/dnf/plugins/versionlock.list"


def _check_signatures(folder: str, key: str) -> None:
    """Check the downloaded packages against this key alone, in a database of its own.

    rpm accepts a package that has digests and no signature at all; that it is signed must be asked for by itself.
    """
    database = ["--dbpath", os.path.join(folder, "rpmdb")]
    _checked(commands.run(["rpmkeys", *database, "--import", _write(folder, "key.asc", key)], QUERY_TIMEOUT))
    for package in glob.glob(os.path.join(folder, "rpms", "*.rpm")):
        argv = ["rpmkeys", *database, "--checksig", "--verbose", package]
        said = _checked(commands.run(argv, QUERY_TIMEOUT, env=_C_LOCALE))
        if "ignature" not in said or "NOKEY" in said:
            raise RepositoryError(f"{os.path.basename(package)} is not signed with this key")


def _index(lists: str) -> dict[str, list[str]]:
    """Read apt's indexes: stanzas that begin with Package and have a Version."""
    found: dict[str, list[str]] = {}
    for path in glob.glob(os.path.join(glob.escape(lists), "*_Packages")):
        name = ""
        with open(path, encoding="utf-8", errors="replace") as stream:
            for line in stream:
                if line.startswith("Package:"):
                    name = line.partition(":")[2].strip()
                elif line.startswith("Version:") and name:
                    found.setdefault(name, []).append(line.partition(":")[2].strip())
    return found


def has(tool: str) -> bool:
    return shutil.which(tool) is not None


def _output(argv: list[str]) -> str:
    return commands.run(argv, QUERY_TIMEOUT, env=_C_LOCALE).stdout


def _checked(result: CommandResult) -> str:
    if result.rc != 0:
        lines = [line.strip() for line in result.message().splitlines() if line.strip()]
        telling = [line for line in lines if line.startswith(("E:", "W: GPG", "Error", "error"))] or lines
        raise RepositoryError(" ".join(telling)[:800])
    return result.stdout


def _write(folder: str, name: str, text: str) -> str:
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text if text.endswith("\n") else text + "\n")
    os.chmod(path, 0o644)
    return path
