# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches one file from a URL. What an earlier attempt has of it is not fetched again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError

from ansible.module_utils.urls import NoSSLError, SSLValidationError, open_url

from .disk_room import free_bytes, too_small
from .file_digests import file_sha256
from .source_error import SourceError

_CHUNK = 1 << 20
_SILENCE = 60
"""Seconds without a byte after which a server counts as gone."""
_ALL_IS_THERE = 416
"""RFC 9110, 15.5.17: the range begins where the file ends."""


def fetch_url(source: Mapping[str, Any], into: str) -> None:
    """Have the file of `source` (location, version: its SHA-256 in hex) at `into`, complete and verified.

    Credentials come from the account's netrc, proxies from the environment.

    Raises:
        SourceError: the server did not give it, the disk is too small, or it is another file than the digest says.
        OSError: it can't be written.
    """
    begun = os.path.getsize(into) if os.path.isfile(into) else 0
    try:
        _continue(source["location"], into, begun)
    except (SSLValidationError, NoSSLError, OSError) as error:  # a URLError is an OSError
        if isinstance(error, OSError) and error.filename == into:
            raise
        raise SourceError(f"{source['location']} can't be fetched: {error}") from None
    found = file_sha256(into)
    if found != source["version"]:
        os.unlink(into)
        raise SourceError(f"{source['location']} must have SHA-256 {source['version']}, what came has {found}")


def _continue(location: str, into: str, begun: int) -> None:
    headers = {"Range": f"bytes={begun}-"} if begun else {}
    try:
        response = open_url(location, headers=headers, timeout=_SILENCE, follow_redirects="safe", decompress=False)
    except HTTPError as error:
        if error.code == _ALL_IS_THERE:
            return
        raise
    with response:
        goes_on = getattr(response, "status", None) == 206  # RFC 9110, 15.3.7: only a part, as it was asked for
        size = int(response.headers.get("Content-Length") or 0)
        free = free_bytes(os.path.dirname(into)) + (0 if goes_on else begun)
        if size > free:
            raise SourceError(too_small(into, size, free, location))
        with open(into, "ab" if goes_on else "wb") as stream:
            for chunk in iter(lambda: response.read(_CHUNK), b""):
                stream.write(chunk)
            came = stream.tell() - (begun if goes_on else 0)
        if came < size:
            raise SourceError(f"{location} broke off after {came} of {size} bytes: provision again to go on from there")
