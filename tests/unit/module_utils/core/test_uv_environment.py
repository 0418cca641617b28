# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pip's configuration, said in uv's words."""

from __future__ import annotations

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.uv_environment import (
    EMPTY_INDEX,
    parse_pip_config_list,
    uv_environment,
)


def test_nothing_configured_gives_nothing() -> None:
    assert parse_pip_config_list("") == {}
    assert uv_environment({}) == {}


def test_one_effective_value_per_option_and_the_environment_wins() -> None:
    text = """\
:env:.find-links='/srv/wheels'
global.find-links='/elsewhere'
global.timeout='15'
install.timeout='60'
"""
    assert parse_pip_config_list(text) == {"find-links": "/srv/wheels", "timeout": "60"}


def test_the_order_of_the_lines_does_not_matter() -> None:
    lines = [":env:.cert='/env.pem'", "global.cert='/global.pem'", "install.cert='/install.pem'"]
    for ordered in (lines, lines[::-1]):
        assert parse_pip_config_list("\n".join(ordered)) == {"cert": "/env.pem"}


def test_python_quoting_is_undone() -> None:
    text = """global.cert="/etc/it's here.pem"\nglobal.find-links='\\n/a\\n/b'"""
    assert parse_pip_config_list(text) == {"cert": "/etc/it's here.pem", "find-links": "/a\n/b"}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "no equals sign",
        "download.find-links='/other/command'",
        "global.find-links=unquoted",
        "global.retries=3",
        "global='no option'",
        "WARNING: something=else",
    ],
)
def test_what_is_not_an_option_of_pip_install_is_left_out(line: str) -> None:
    assert parse_pip_config_list(line) == {}


def test_an_empty_value_does_not_hide_a_weaker_one() -> None:
    assert parse_pip_config_list(":env:.find-links=''\nglobal.find-links='/srv'") == {"find-links": "/srv"}


def test_underscores_and_dashes_are_one_option() -> None:
    assert parse_pip_config_list("global.index_url='https://mirror.example/simple'") == {
        "index-url": "https://mirror.example/simple"
    }


def test_lists_get_the_separators_of_uv() -> None:
    config = {"find-links": "/a\n/b  /c", "index-url": "file:///main", "extra-index-url": "file:///one\nfile:///two"}
    environment = uv_environment(config)
    assert environment["UV_FIND_LINKS"] == "/a,/b,/c"
    assert environment["UV_INDEX"] == "file:///main file:///one file:///two"


def test_extra_indexes_never_come_before_the_main_one() -> None:
    assert uv_environment({"extra-index-url": "file:///one"}) == {}


@pytest.mark.parametrize(
    ("option", "variable"),
    [
        ("index-url", "UV_DEFAULT_INDEX"),
        ("cert", "SSL_CERT_FILE"),
        ("client-cert", "SSL_CLIENT_CERT"),
        ("proxy", "ALL_PROXY"),
        ("timeout", "UV_HTTP_TIMEOUT"),
        ("default-timeout", "UV_HTTP_TIMEOUT"),
        ("retries", "UV_HTTP_RETRIES"),
    ],
)
def test_single_values(option: str, variable: str) -> None:
    assert uv_environment({option: "value"}) == {variable: "value"}


def test_all_indexes_are_searched_only_where_pip_has_several() -> None:
    assert "UV_INDEX_STRATEGY" not in uv_environment({"index-url": "https://mirror.example/simple"})
    several = uv_environment({"index-url": "https://a.example", "extra-index-url": "https://b.example"})
    assert several["UV_INDEX_STRATEGY"] == "unsafe-best-match"


def test_no_index_leaves_the_find_links_alone() -> None:
    environment = uv_environment(
        {
            "no-index": "1",
            "find-links": "/srv",
            "index-url": "https://a.example",
            "extra-index-url": "https://b.example",
        }
    )
    assert environment == {"UV_FIND_LINKS": "/srv", "UV_DEFAULT_INDEX": EMPTY_INDEX}


def test_nothing_insecure_and_nothing_unknown_is_passed_on() -> None:
    assert uv_environment({"trusted-host": "mirror.example", "no-index": "0", "quiet": "1"}) == {}
