"""OpenLiteSpeed's access log, which puts a quote before each line."""

from __future__ import annotations

from traffic.formats.template_format import template_format

LITESPEED = template_format(
    "litespeed",
    "OpenLiteSpeed",
    '"203.0.113.7 - - [10/May/2024:06:25:24 +0000] "GET / HTTP/1.1" 200 57 "-" "curl/8.4.0"',
    "https://docs.openlitespeed.org/config/advanced/logs/",
    '"$remote_addr $remote_logname $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" '
    '"$http_user_agent"',
    '"$remote_addr $remote_logname $remote_user [$time_local] "$request" $status $body_bytes_sent',
)
