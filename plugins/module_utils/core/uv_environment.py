# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a site configured for pip, in the words of uv.

uv reads neither pip.conf nor PIP_* variables, so a mirror, a wheel folder or a private certificate authority that a
site has set up once for pip would be missing. This file is pure and imports the standard library alone: the Makefile
runs it before anything is installed, and the roles use the same mapping on the nodes.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

# pip has a switch for "ask no index", uv's environment has none. An index in a folder that doesn't exist holds no
# packages, for uv 0.13 too, so that what is left are the find-links, as with pip.
EMPTY_INDEX = "file:///nonexistent/no-index"

# Where pip looks for an option of `pip install`, the strongest last.
SECTIONS = ("global", "install", ":env:")

SINGLE_VALUES = {
    "index-url": "UV_DEFAULT_INDEX",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "retries": "UV_HTTP_RETRIES",
}


def parse_pip_config_list(text: str) -> dict[str, str]:
    """Read the output of `pip config list`, which covers pip's files and its PIP_* variables.

    Each line is `section.option='value'`, the value quoted as Python would. The result has one effective value per
    option, without the section. Options of other pip commands and unreadable lines are left out.
    """
    found: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for line in text.splitlines():
        name, equals, quoted = line.strip().partition("=")
        section, dot, option = name.partition(".")
        if not (equals and dot and section in found):
            continue
        try:
            value = ast.literal_eval(quoted)
        except (SyntaxError, ValueError):
            continue
        # pip ignores an option that is set to nothing, so a weaker section still counts.
        if isinstance(value, str) and value.strip():
            found[section][option.lower().replace("_", "-")] = value.strip()
    return {option: value for section in SECTIONS for option, value in found[section].items()}


def uv_environment(pip_config: Mapping[str, str]) -> dict[str, str]:
    """Give the environment variables that make uv look where pip looks.

    Keys of `pip_config` are pip's option names without their section (see `parse_pip_config_list`). What the caller
    has set for uv itself should win: `{**uv_environment(config), **os.environ}`. pip's `trusted-host` is left out on
    purpose: nothing here switches certificate checks off.
    """
    environment = {variable: pip_config[option] for option, variable in SINGLE_VALUES.items() if pip_config.get(option)}
    find_links = pip_config.get("find-links", "").split()
    if find_links:
        environment["UV_FIND_LINKS"] = ",".join(find_links)

    if pip_config.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        environment["UV_DEFAULT_INDEX"] = EMPTY_INDEX
        return environment

    extra_indexes = pip_config.get("extra-index-url", "").split()
    if extra_indexes and "UV_DEFAULT_INDEX" in environment:
        # pip merges the files of all its indexes; uv takes a version's files from the first index that has it, and
        # an extra index may hold just one wheel of a version, for another Python. So the main index comes first.
        # Where pip's configuration names no main index, uv can't put its own default before others, and the extra
        # ones are left to a person (UV_INDEX).
        environment["UV_INDEX"] = " ".join([environment["UV_DEFAULT_INDEX"], *extra_indexes])
        # pip takes the best version of all indexes; uv stops at the first index that knows the name, which guards
        # against a stranger's package of the same name. A site that gave pip several indexes has accepted pip's way
        # and may hold only a part of the versions on each, so uv follows there, and there alone.
        environment["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return environment
