"""Zeek's http.log, as columns or JSON."""

from __future__ import annotations

from traffic.formats.base import Block, Format, Splitter
from traffic.formats.json_records import JSON
from traffic.formats.w3c import LOG


def _splitter(block: Block) -> Splitter | None:
    if b"id.orig_h" not in block.data[: 1 << 16]:
        return None
    splitter = (JSON if block.data.lstrip().startswith(b"{") else LOG).splitter(block)
    return splitter if splitter is not None and {"ts", "id.orig_h", "status_code"} <= set(splitter.names) else None


ZEEK = Format(
    name="zeek",
    title="Zeek's http.log",
    example='{"ts":1715322324.512345,"uid":"C1","id.orig_h":"203.0.113.7","id.resp_h":"192.0.2.1","method":"GET","host":"example.org",'
    '"uri":"/","status_code":200}',
    source="https://docs.zeek.org/en/master/logs/http.html",
    splitter=_splitter,
    roles={"client": ("id.orig_h",), "time": ("ts",), "status": ("status_code",)},
)
