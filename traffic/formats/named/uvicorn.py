"""uvicorn's access log, which has no time of its own: only a collector's stamps make it readable."""

from __future__ import annotations

from traffic.formats.template_format import template_format

UVICORN = template_format(
    "uvicorn",
    "uvicorn, behind a collector that stamps its lines",
    'INFO:     203.0.113.7:52744 - "GET / HTTP/1.1" 200 OK',
    "https://www.uvicorn.org/settings/#logging",
    '$level:     $remote_addr - "$request" $status $reason',
    '$remote_addr - "$request" $status $reason',
    '$remote_addr - "$request" $status',
)
