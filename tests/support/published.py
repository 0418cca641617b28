# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers from which training files come: a web server that can break off, and a stand-in for the Hub.

The stand-in answers what the Hub's own library asks for a repository at a commit, as the real one answers it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REVISION = "5d3b1f0c9a8e7d6c5b4a39281706f5e4d3c2b1a0"
LARGE = ".safetensors"
"""Files of which the Hub knows the SHA-256, since they lie in its large file storage."""


class Site:
    """What is published, and what was asked for."""

    def __init__(self, address: str, files: dict[str, bytes]) -> None:
        self.address = address
        self.files = files
        self.requests: list[str] = []
        self.token = ""
        self.breaks_off_after: int | None = None


@contextlib.contextmanager
def web_site(files: Mapping[str, bytes]) -> Iterator[Site]:
    """Serve `files` by their paths."""
    with _serving(dict(files), _answer_file) as site:
        yield site


@contextlib.contextmanager
def hub(files: Mapping[str, bytes]) -> Iterator[Site]:
    """Serve `files` as the model org/tiny and as the dataset org/tiny, both at REVISION."""
    with _serving(dict(files), _answer_hub) as site:
        yield site


@contextlib.contextmanager
def _serving(files: dict[str, bytes], answer: Callable[[_Request], None]) -> Iterator[Site]:
    class Handler(_Request):
        def do_GET(self) -> None:
            self.site.requests.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
            answer(self)

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.site = Site(f"http://127.0.0.1:{server.server_port}", files)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Handler.site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Request(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, *unused: object) -> None:
        """Say nothing."""

    def reply(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            most = self.site.breaks_off_after
            self.wfile.write(content if most is None else content[:most])

    def reply_json(self, document: object) -> None:
        self.reply(200, json.dumps(document).encode(), Content_Type="application/json")

    def reply_file(self, content: bytes, **headers: str) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not asked:
            self.reply(200, content, **headers)
        elif int(asked[1]) >= len(content):
            self.reply(416)
        else:
            self.reply(206, content[int(asked[1]) :], **headers)


def _answer_file(request: _Request) -> None:
    content = request.site.files.get(request.path.lstrip("/"))
    if content is None:
        request.reply(404)
    else:
        request.reply_file(content)


def _answer_hub(request: _Request) -> None:
    site, path = request.site, request.path.partition("?")[0]
    if site.token and request.headers.get("Authorization") != f"Bearer {site.token}":
        request.reply(401, X_Error_Code="GatedRepo", X_Error_Message="Access to this repository is restricted")
    elif re.fullmatch(rf"/api/(models|datasets)/org/tiny/revision/{REVISION}", path):
        names = [{"rfilename": name} for name in site.files]
        request.reply_json({"_id": "1", "id": "org/tiny", "sha": REVISION, "siblings": names})
    elif re.fullmatch(rf"/api/(models|datasets)/org/tiny/tree/{REVISION}/?", path):
        request.reply_json([_entry(name, content) for name, content in site.files.items()])
    elif found := re.fullmatch(rf"(?:/datasets)?/org/tiny/resolve/{REVISION}/(.*)", path):
        content = site.files[found[1]]
        request.reply_file(content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit=REVISION)
    else:
        request.reply(404, X_Error_Code="RepoNotFound")


def _entry(name: str, content: bytes) -> dict[str, object]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    entry: dict[str, object] = {"type": "file", "path": name, "size": len(content), "oid": blob}
    if name.endswith(LARGE):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry
