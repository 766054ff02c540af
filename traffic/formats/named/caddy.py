"""Caddy's access log. What Caddy says of itself, and errors behind a request, are no requests."""

from __future__ import annotations

from traffic.formats.fields_format import fields_format

CADDY = fields_format(
    "caddy",
    "Caddy (JSON)",
    '{"level":"info","ts":1646861401.5241024,"logger":"http.log.access","msg":"handled '
    'request","request":{"remote_ip":"203.0.113.7","remote_port":"41342","client_ip":"203.0.113.7","proto":"H'
    'TTP/2.0","method":"GET","host":"localhost","uri":"/"},"bytes_read":0,"user_id":"","duration":0.000929675'
    ',"size":10900,"status":200}',
    "https://caddyserver.com/docs/logging",
    "logger",
    "msg",
    "request.client_ip|request.remote_ip|request.remote_addr",
    roles={
        "client": ("request.client_ip", "request.remote_ip", "request.remote_addr"),
        "time": ("ts",),
        "status": ("status",),
    },
    only={"logger": "http\\.log\\.access.*"},
)
