"""Google Cloud's load balancers, Cloud Run and App Engine. Entries without a request are none."""

from __future__ import annotations

from traffic.formats.fields_format import fields_format

GOOGLE_CLOUD = fields_format(
    "google_cloud",
    "Google Cloud (httpRequest)",
    '{"timestamp":"2024-05-10T06:25:24.512345Z","httpRequest":{"requestMethod":"GET","requestUrl":"https://ex'
    'ample.org/x","status":200,"remoteIp":"203.0.113.7","latency":"0.018s"},"severity":"INFO"}',
    "https://cloud.google.com/load-balancing/docs/https/https-logging-monitoring",
    "httpRequest.remoteIp",
    "timestamp",
    roles={"client": ("httpRequest.remoteIp",), "time": ("timestamp",), "status": ("httpRequest.status",)},
    only={"httpRequest.remoteIp": ".+"},
)
