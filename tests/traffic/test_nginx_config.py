"""A form is found by its name in the configuration of a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from traffic.formats.base import FormatMismatchError
from traffic.formats.nginx_config import MAX_BYTES, read_log_format

NGINX = r"""
http {
    content_by_lua_block { -- it's no string
    }
    include mime.types;  # log_format hidden '$pid';
    # log_format old '$remote_addr';
    log_format main '$remote_addr [$time_local] ; # "$request" '
                    # '$pid '
                    '$status';
    log_format  timed  escape=default
        "$msec \"$request\" $status";
    gzip on; log_format json escape=json '{"t": "$time_iso8601"}';
    access_log /var/log/nginx/access.log timed;
    include conf.d/*.conf;
}
"""
APACHE = r"""
# LogFormat "%h" old
LogFormat "%h %l %u %t \"%r\" %>s %b" mine
LogFormat "%{Referer}i -> %U" \
    referer
CustomLog "logs/ssl_request_log" "%t %h \"%r\" %b"
CustomLog logs/access_log mine
IncludeOptional sites-enabled/*.conf
"""
HAPROXY = """
defaults
    log-format "%ci:%cp [%tr] %ST %{+Q}r"
"""


@pytest.fixture
def config(tmp_path: Path) -> dict[str, str]:
    files = {"nginx.conf": NGINX, "apache2.conf": APACHE, "haproxy.cfg": HAPROXY, "one:two.txt": "$remote_addr $status\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return {name: str(tmp_path / name) for name in files}


@pytest.mark.parametrize(
    ("file", "name", "form"),
    [
        ("nginx.conf", ":main", '$remote_addr [$time_local] ; # "$request" $status'),
        ("nginx.conf", ":timed", '$msec "$request" $status'),
        (
            "apache2.conf",
            ":mine",
            '$remote_addr $remote_logname $remote_user [$time_local] "$request" $status $body_bytes_sent',
        ),
        ("apache2.conf", ":referer", "$http_referer -> $uri"),
        ("apache2.conf", ":ssl_request_log", '[$time_local] $remote_addr "$request" $body_bytes_sent'),
        (
            "apache2.conf",
            ":common",
            '$remote_addr $remote_logname $remote_user [$time_local] "$request" $status $body_bytes_sent',
        ),
        ("haproxy.cfg", "", '$remote_addr:$remote_port [$time_local] $status "$request"'),
        ("one:two.txt", "", "$remote_addr $status"),
    ],
)
def test_a_form_is_found(config: dict[str, str], file: str, name: str, form: str) -> None:
    assert str(read_log_format(f"@{config[file]}{name}")) == form


@pytest.mark.parametrize(
    ("file", "name", "message"),
    [
        (
            "nginx.conf",
            ":other",
            r"has no log format 'other'; it has main, timed, json; it includes mime.types, conf.d/\*.conf,",
        ),
        ("nginx.conf", ":old", "has no log format 'old'"),
        ("nginx.conf", "", "has several log formats; add the name of one: @.*nginx.conf:main, @.*nginx.conf:timed, "),
        ("nginx.conf", ":json", "leave --log-format out, it is JSON lines"),
        ("haproxy.cfg", "x", "haproxy.cfgx cannot be read for the log format: No such file or directory"),
    ],
)
def test_what_is_not_found_is_said_with_what_there_is(config: dict[str, str], file: str, name: str, message: str) -> None:
    with pytest.raises(FormatMismatchError, match=message):
        read_log_format(f"@{config[file]}{name}")


def test_a_file_that_is_no_configuration_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(FormatMismatchError, match="is longer than 1 MiB"):
        read_log_format(f"@{path}")


def test_a_built_in_name_is_a_form() -> None:
    assert read_log_format("main").names[-1] == "http_x_forwarded_for"
