"""Kong's log plugins (file-log, http-log). The consumer is the key where requests have one."""

from __future__ import annotations

from traffic.formats.fields_format import fields_format

KONG = fields_format(
    "kong",
    "Kong (file-log)",
    '{"started_at":1726783839123,"client_ip":"203.0.113.7","consumer":{"username":"acme"},"request":{"method"'
    ':"GET","uri":"/x"},"response":{"status":200,"size":9982},"latencies":{"request":7,"kong":1,"proxy":6}}',
    "https://developer.konghq.com/plugins/file-log/",
    "started_at",
    "client_ip",
    "response.status",
    roles={
        "client": ("client_ip",),
        "time": ("started_at",),
        "status": ("response.status",),
        "user": ("consumer.username",),
    },
)
