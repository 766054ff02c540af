"""The access log of Gin, a framework for Go."""

from __future__ import annotations

from traffic.formats.template_format import template_format

GIN = template_format(
    "gin",
    "Gin (Go)",
    '[GIN] 2024/05/10 - 06:25:24 | 200 |     122.767µs |     203.0.113.7 | GET      "/ping"',
    "https://gin-gonic.com/docs/examples/custom-log-format/",
    '[GIN] $date - $time | $status |  $latency |  $remote_addr | $request_method  "$request_uri"',
    roles={"time": ("date", "time")},
)
