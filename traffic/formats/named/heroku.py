"""Heroku's router, whose time is the stamp of the drain or of `heroku logs`."""

from __future__ import annotations

from traffic.formats.fields_format import fields_format
from traffic.formats.logfmt import LOGFMT

HEROKU = fields_format(
    "heroku",
    "Heroku router, behind the stamps of `heroku logs` or a drain",
    'at=info method=GET path="/v1/x" host=app.example.org request_id=8601b555 fwd="203.0.113.7" dyno=web.1 connect=0ms '
    "service=18ms status=200 bytes=13 protocol=https",
    "https://devcenter.heroku.com/articles/http-routing#heroku-router-log-format",
    "at",
    "fwd",
    "dyno",
    "status",
    roles={"client": ("fwd",), "status": ("status",)},
    of=LOGFMT,
)
