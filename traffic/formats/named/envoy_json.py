"""Envoy's and Istio's access log as JSON. A connection of TCP is no request."""

from __future__ import annotations

from traffic.formats.fields_format import fields_format

ENVOY_JSON = fields_format(
    "envoy_json",
    "Envoy, Istio (JSON)",
    '{"start_time":"2024-05-10T06:25:24.512Z","method":"GET","path":"/status/200","protocol":"HTTP/1.1","resp'
    'onse_code":200,"response_flags":"-","bytes_sent":135,"duration":4,"x_forwarded_for":"203.0.113.7","autho'
    'rity":"httpbin:8000","downstream_remote_address":"203.0.113.7:37652","upstream_cluster":"inbound|8000||"'
    "}",
    "https://istio.io/latest/docs/tasks/observability/logs/access-log/",
    "start_time",
    "response_code",
    "response_flags|upstream_cluster|downstream_remote_address",
    "method",
    roles={
        "client": ("downstream_remote_address", "x_forwarded_for"),
        "time": ("start_time",),
        "status": ("response_code",),
    },
    only={"method": "[A-Z]+"},
)
