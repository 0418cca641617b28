# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in of DOCA's repository as rpms, on a host that stands in for Rocky Linux 9.

No image of the RHEL family can be had in every place where these tests run, but Debian has its package manager: dnf
with versionlock, rpm and createrepo_c are real, and so are signatures and layout. What is not real is the system:
os-release says that it is Rocky, and rpm knows nothing of what Debian has installed.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from pathlib import Path

from tools.hosts.bed import Bed

from . import doca

PACKAGES = ("dnf", "dnf-plugins-core", "rpm", "createrepo-c", "gnupg")
DISTRIBUTION = ("python3-dnf-plugin-versionlock", "dnf-plugins-core", "bash")
"""What the role installs from it, and the shell that scripts need, as empty packages: Debian has all of it."""
BASE = "/srv/doca"
NAMES = {"mlnx-ofed-kernel-dkms": "mlnx-ofa_kernel-dkms"}
"""deb to rpm, where they differ."""

_BUILD = f"""set -e
cd /srv/build
gpg --batch --quiet --import secret.asc
for spec in */*.spec; do
    folder=${{spec%/*}}
    out="_rpmdir /srv/build/out/$folder"
    rpmbuild --quiet -bb --define "$out" "$spec" >build.log 2>&1 || {{ cat build.log; exit 1; }}
done
for folder in out/*; do
    release=${{folder#out/}} release=${{release%%--*}}
    target={BASE}/$release/rhel9/x86_64
    [ "$release" = distribution ] && target=/srv/distribution
    mkdir -p "$target" && cp "$folder"/noarch/*.rpm "$target"
done
printf '%%__gpg /usr/bin/gpg\\n%%_gpg_name right\\n' >~/.rpmmacros
rpmsign --addsign {BASE}/*/rhel9/x86_64/*.rpm >sign.log 2>&1 || {{ cat sign.log; exit 1; }}
for target in {BASE}/*/rhel9/x86_64 /srv/distribution; do createrepo_c --quiet "$target"; done
mkdir -p /etc/yum.repos.d /etc/pki/rpm-gpg
printf '[distribution]\\nname=distribution\\nbaseurl=file:///srv/distribution\\ngpgcheck=0\\n' \\
    >/etc/yum.repos.d/distribution.repo
rm -f /etc/os-release
printf 'ID="rocky"\\nVERSION_ID="9.6"\\n' >/etc/os-release
"""


def become_rocky(bed: Bed, host: str, home: Path, releases: dict[str, str]) -> None:
    """Make the host one with rpm and dnf, with a repository for each release (folder to the version that is in it)."""
    install = f"apt-get update && apt-get install --yes --no-install-recommends {' '.join(PACKAGES)}"
    bed.execute(host, "sh", "-c", install)
    kernel = bed.execute(host, "uname", "-r")
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        gpg = ["gpg", "--batch", "--quiet", "--homedir", str(home), "--armor", "--export-secret-keys"]
        _add(archive, "secret.asc", subprocess.run(gpg, check=True, capture_output=True, text=True).stdout)
        for release, version in releases.items():
            for control, files in doca.packages(version, kernel):
                _add_package(archive, release, control, files)
        for name in DISTRIBUTION:
            _add_package(archive, "distribution", {"Package": name, "Version": "4.3.1-1"}, {})
    with tempfile.NamedTemporaryFile() as packed:
        packed.write(content.getvalue())
        packed.flush()
        bed.engine().run("cp", packed.name, f"{bed.container(host)}:/srv/build.tar")
    bed.execute(host, "sh", "-c", f"mkdir -p /srv/build && tar -xf /srv/build.tar -C /srv/build && {_BUILD}")


def _add_package(archive: tarfile.TarFile, release: str, control: dict[str, str], files: dict[str, str]) -> None:
    """A spec and the files that it packs; names and dependencies as rpm writes them."""
    name = control["Package"].replace("linux-headers-", "kernel-devel-")
    name = NAMES.get(name, name)
    epoch, _colon, version = control["Version"].rpartition(":")
    version, _dash, revision = version.partition("-")
    needed = control.get("Depends", "")
    for deb, rpm in NAMES.items():
        needed = needed.replace(deb, rpm)
    requires = [need.strip(" )").replace(" (=", " =").partition("-1")[0] for need in needed.split(",") if need]
    folder = f"{release}--{name}"
    scripts = {path: text for path, text in files.items() if path.startswith("DEBIAN/")}
    packed = {path: text for path, text in files.items() if path not in scripts}
    packed = {path.replace("lib/systemd", "usr/lib/systemd"): text for path, text in packed.items()}
    lines = [f"Name: {name}", f"Version: {version}", f"Release: {revision or '1'}", "Summary: stand-in"]
    lines += ["License: none", "BuildArch: noarch", *([f"Epoch: {epoch}"] if epoch else [])]
    lines += [f"Requires: {need}" for need in requires]
    lines += ["Provides: /bin/sh"] if name == "bash" else []
    lines += ["%description", "Stand-in.", "%install", "mkdir -p %{buildroot}"]
    lines += [f"cp -a /srv/build/{folder}/root/. %{{buildroot}}"] if packed else []
    lines += [line for text in scripts.values() for line in ("%post", _renamed(text))]
    lines += ["%files", *(f"/{path}" for path in packed)]
    _add(archive, f"{folder}/{name}.spec", "\n".join(lines) + "\n")
    for path, text in packed.items():
        _add(archive, f"{folder}/root/{path}", _renamed(text))


def _renamed(text: str) -> str:
    return text.replace("mlnx-ofed-kernel/", "mlnx-ofa_kernel/")


def _add(archive: tarfile.TarFile, path: str, text: str) -> None:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = len(text.encode()), 0o755 if text.startswith("#!") else 0o644
    archive.addfile(entry, io.BytesIO(text.encode()))
