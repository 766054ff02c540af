"""The audit log of Vault, which has a record before and after each request. The one after it counts."""

from __future__ import annotations

from traffic.formats.fields_format import fields_format

VAULT = fields_format(
    "vault",
    "Vault audit log",
    '{"time":"2024-05-10T06:25:24.512Z","type":"response","auth":{"token_type":"service"},"request":{"id":"1","operation":'
    '"read","path":"secret/a","remote_address":"203.0.113.7"}}',
    "https://developer.hashicorp.com/vault/docs/audit",
    "time",
    "type",
    "request.operation",
    "request.remote_address",
    roles={"client": ("request.remote_address",), "time": ("time",), "path": ("request.path",)},
    only={"type": "response"},
)
