"""uWSGI's own lines about requests."""

from __future__ import annotations

from traffic.formats.template_format import template_format

BEGINNING = "[pid: $pid|app: $app|req: $req] $remote_addr ($remote_user) {$vars} [$time_local] $request_method"

UWSGI = template_format(
    "uwsgi",
    "uWSGI",
    "[pid: 3492|app: 0|req: 42/169] 203.0.113.7 () {40 vars in 539 bytes} [Fri May 10 06:25:24 2024] GET /a => generated 125"
    " bytes in 1 msecs (HTTP/1.1 200) 2 headers in 89 bytes (1 switches on core 0)",
    "https://uwsgi-docs.readthedocs.io/en/latest/LogFormat.html",
    f"{BEGINNING} $request_uri => generated $body_bytes_sent bytes in $elapsed msecs$via ($server_protocol $status) "
    "$headers",
)
