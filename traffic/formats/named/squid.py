"""Squid's native access log."""

from __future__ import annotations

from traffic.formats.template_format import template_format

SQUID = template_format(
    "squid",
    "Squid (native)",
    "1286536309.450    180 203.0.113.7 TCP_MISS/200 411 GET http://example.org/a - HIER_DIRECT/1.2.3.4 text/html",
    "https://wiki.squid-cache.org/Features/LogFormat",
    "$msec  $elapsed $remote_addr $cache_result/$status $bytes_sent $request_method $request_uri "
    "$remote_user $hierarchy/$upstream_addr $content_type",
)
