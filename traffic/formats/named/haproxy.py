"""HAProxy's `option httplog` and `httpslog`."""

from __future__ import annotations

from traffic.formats.template_format import template_format

CONNECTION = (
    "$remote_addr:$remote_port [$time_local] $frontend $backend/$server "
    "$time_request_ms/$time_queue_ms/$time_connect_ms/$time_response_ms/$time_active_ms $status $bytes_sent "
    "$captured_request_cookie $captured_response_cookie $termination_state "
    "$actconn/$feconn/$beconn/$srv_conn/$retries $srv_queue/$backend_queue"
)
HEADERS = "{$captured_request_headers} {$captured_response_headers} ", "{$captured_request_headers} ", ""

HAPROXY = template_format(
    "haproxy",
    "HAProxy (httplog, httpslog)",
    "203.0.113.7:33317 [06/Feb/2009:12:14:14.655] http-in static/srv1 10/0/30/69/109 200 2750 - - ---- "
    '1/1/1/1/0 0/0 {1wt.eu} {} "GET /index.html HTTP/1.1"',
    "https://docs.haproxy.org/2.8/configuration.html#8.2.3",
    *(f'{CONNECTION} {headers}"$request"' for headers in HEADERS),
)
