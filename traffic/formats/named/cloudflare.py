"""Cloudflare's Logpush of HTTP requests."""

from __future__ import annotations

from traffic.formats.fields_format import fields_format

CLOUDFLARE = fields_format(
    "cloudflare",
    "Cloudflare Logpush (http_requests)",
    '{"ClientIP":"203.0.113.7","ClientRequestHost":"example.com","ClientRequestMethod":"GET","ClientRequestUR'
    'I":"/","EdgeEndTimestamp":"2018-05-20T09:58:09Z","EdgeResponseBytes":1212,"EdgeResponseStatus":200,"Edge'
    'StartTimestamp":"2018-05-20T09:58:09Z","RayID":"41ddf1740f67442d"}',
    "https://developers.cloudflare.com/logs/reference/log-fields/zone/http_requests/",
    "ClientIP",
    "EdgeStartTimestamp",
    "EdgeResponseStatus|RayID",
    roles={"client": ("ClientIP",), "time": ("EdgeStartTimestamp",), "status": ("EdgeResponseStatus",)},
)
