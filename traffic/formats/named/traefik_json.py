"""Traefik's access log as JSON."""

from __future__ import annotations

from traffic.formats.fields_format import fields_format

TRAEFIK_JSON = fields_format(
    "traefik_json",
    "Traefik (JSON)",
    '{"ClientAddr":"203.0.113.7:40126","ClientHost":"203.0.113.7","DownstreamStatus":200,"Duration":1811271,"'
    'OriginStatus":200,"RequestMethod":"GET","RequestPath":"/","StartUTC":"2024-11-14T17:58:01.201712623Z","l'
    'evel":"info","msg":"","time":"2024-11-14T10:58:01-07:00"}',
    "https://doc.traefik.io/traefik/observability/access-logs/",
    "ClientHost|ClientAddr",
    "DownstreamStatus",
    "StartUTC|StartLocal|time",
    roles={
        "client": ("ClientHost", "ClientAddr"),
        "time": ("StartUTC", "StartLocal", "time"),
        "status": ("DownstreamStatus",),
    },
)
