"""Any text log with a time and what belongs to a request, told from the lines themselves."""

from __future__ import annotations

from traffic.formats.base import Format
from traffic.formats.infer import infer_splitter

TEXT = Format(
    name="text",
    title="any text log, whose columns are told from their values",
    example="[05/Aug/2019:20:45:55 +0100] 203.0.113.7 -> 10.0.0.1 | https POST /api/post HTTP/1.1 | rt: 0.016 | status: 200",
    source="https://nginx.org/en/docs/http/ngx_http_log_module.html#log_format",
    splitter=infer_splitter,
)
