# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for NVIDIA's DOCA repository: the layout and the signatures are real, the packages are small scripts.

They are installed by the real apt, need each other as the real ones do, and leave traces that tests read: how often
openibd was started, and for which kernels drivers were "built".
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

FOLDER = "debian12/x86_64"
DKMS_STATE = "/var/lib/dkms-stand-in"
STARTS = "/var/log/openibd-starts"

_DKMS = f"""#!/bin/sh
# Says and does what dkms 3 does, without a compiler.
case $1 in
status) cat {DKMS_STATE} 2>/dev/null ;;
autoinstall) echo "mlnx-ofed-kernel/25.10, $3, x86_64: installed" >{DKMS_STATE} ;;
esac
"""
# DKMS builds while the package is configured, if it can.
_BUILD = f"""#!/bin/sh
set -e
if [ -e /lib/modules/$(uname -r)/build/Makefile ]; then
    echo "mlnx-ofed-kernel/25.10, $(uname -r), x86_64: installed" >{DKMS_STATE}
else
    echo "mlnx-ofed-kernel/25.10: added" >{DKMS_STATE}
fi
"""
_OPENIBD = f"""[Unit]
Description=openibd - configure Mellanox devices (stand-in)
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'date >>{STARTS}'
"""


def key(folder: Path, name: str) -> tuple[Path, str]:
    """A signing key of its own keyring, and its public half, armored."""
    home = folder / name
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--batch", "--quiet", "--homedir", str(home)]
    make = [*gpg, "--passphrase", "", "--quick-generate-key", f"{name} <{name}@example.org>", "ed25519", "sign", "1d"]
    subprocess.run(make, check=True, capture_output=True)
    return home, subprocess.run([*gpg, "--armor", "--export"], check=True, capture_output=True, text=True).stdout


def packages(version: str, kernel: str) -> list[tuple[dict[str, str], dict[str, str]]]:
    """Fields of control and files (path to content; DEBIAN/... are maintainer scripts) of each package."""
    tools = {"infiniband-diags": ["ibstat", "ibhosts", "ibqueryerrors", "perfquery"], "perftest": ["ib_write_bw"]}
    needs = "infiniband-diags (= 2510.0-1), perftest (= 2510.0-1), mlnx-ofed-kernel-dkms, ofed-scripts"
    made: list[tuple[dict[str, str], dict[str, str]]] = [
        ({"Package": "doca-ofed", "Version": f"{version}-0.1.8", "Depends": needs}, {}),
        (
            {"Package": "mlnx-ofed-kernel-dkms", "Version": "25.10.OFED-1", "Depends": "dkms"},
            {"DEBIAN/postinst": _BUILD},
        ),
        # The epoch keeps Debian's own away, which brings a compiler.
        ({"Package": "dkms", "Version": "99:1"}, {"usr/sbin/dkms": _DKMS}),
        ({"Package": "ofed-scripts", "Version": "25.10-1"}, {"lib/systemd/system/openibd.service": _OPENIBD}),
        ({"Package": f"linux-headers-{kernel}", "Version": "1"}, {f"lib/modules/{kernel}/build/Makefile": "all:\n"}),
    ]
    for package, names in tools.items():
        files = {f"usr/sbin/{name}": f"#!/bin/sh\necho {name} of DOCA\n" for name in names}
        made.append(({"Package": package, "Version": "2510.0-1"}, files))
    return made


def publish(base: Path, release: str, home: Path, contents: list[tuple[dict[str, str], dict[str, str]]]) -> None:
    """Build packages into <base>/<release>/debian12/x86_64 and sign the index with the key in `home`."""
    folder = base / release / FOLDER
    folder.mkdir(parents=True)
    stanzas = []
    for control, files in contents:
        fields = {**control, "Architecture": "all", "Maintainer": "tests", "Description": "stand-in"}
        stanza = "".join(f"{name}: {value}\n" for name, value in fields.items())
        path = folder / f"{control['Package']}.deb"
        _build(base / "build", stanza, files, path)
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        stanzas.append(f"{stanza}Filename: ./{path.name}\nSize: {len(content)}\nSHA256: {digest}\n")
    index = "\n".join(stanzas).encode()
    (folder / "Packages").write_bytes(index)
    digest = hashlib.sha256(index).hexdigest()
    plain = f"Origin: stand-in\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n {digest} {len(index)} Packages\n"
    sign = ["gpg", "--batch", "--quiet", "--homedir", str(home), "--clearsign"]
    signed = subprocess.run(sign, check=True, input=plain, capture_output=True, text=True).stdout
    (folder / "InRelease").write_text(signed)


def _build(work: Path, control: str, files: Mapping[str, str], path: Path) -> None:
    root = work / path.stem
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(control)
    for name, content in files.items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        target.chmod(0o755 if content.startswith("#!") else 0o644)
    build = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(root), str(path)]
    subprocess.run(build, check=True, capture_output=True)
    subprocess.run(["rm", "-rf", str(work)], check=True)


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder, and remembers what it was asked for."""

    def __init__(self, base: Path, address: str) -> None:
        super().__init__((address, 0), functools.partial(_Handler, directory=str(base)))
        self.requests: list[str] = []
        self.url = f"http://{address}:{self.server_address[1]}"


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        if isinstance(self.server, Server):
            self.server.requests.append(self.path)


@contextlib.contextmanager
def served(base: Path, address: str) -> Iterator[Server]:
    """The folder over HTTP on an address of this machine."""
    server = Server(base, address)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
