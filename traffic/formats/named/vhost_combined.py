"""The virtual host before a combined or common line."""

from __future__ import annotations

from dataclasses import replace

import pyarrow.compute as pc

from traffic.formats.base import Block, Splitter
from traffic.formats.infer import sample
from traffic.formats.template_format import template_format

# What stands before the client is the client's own address, or how long the answer took, unless it is a name.
HOST = r"^[^,\s]*[A-Za-z_*][^,:\s]*$"
WEB_PORT = r"^(?:80|443|8080|8443)$"

FORM = template_format(
    "vhost_combined",
    "Apache with virtual hosts, as on Debian",
    'www.example.org:443 203.0.113.7 - - [21/Jan/2021:17:19:53 +0800] "GET /a HTTP/1.1" 200 207364 "-" "bot/1"',
    "https://httpd.apache.org/docs/2.4/logs.html#virtualhost",
    '%v:%p %h %l %u %t "%r" %>s %O "%{Referer}i" "%{User-Agent}i"',
    '%v:%p %h %l %u %t "%r" %>s %O',
    '%v %h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"',
    '%v %h %l %u %t "%r" %>s %b',
)


def _splitter(block: Block) -> Splitter | None:
    splitter = FORM.splitter(block)
    if splitter is None:
        return None
    columns = splitter.split(sample(block), ("server_name", "server_port", "remote_addr")).columns
    named = pc.or_(
        pc.match_substring_regex(columns["server_name"], HOST),
        pc.fill_null(pc.match_substring_regex(columns["server_port"], WEB_PORT), False),
    )
    client = pc.not_equal(columns["remote_addr"], "-")
    return splitter if 2 * pc.sum(pc.and_(named, client)).as_py() > len(named) else None


VHOST_COMBINED = replace(FORM, splitter=_splitter)
