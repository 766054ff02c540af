"""Amazon API Gateway, with its standard fields as JSON."""

from __future__ import annotations

from traffic.formats.fields_format import fields_format

API_GATEWAY = fields_format(
    "api_gateway",
    "Amazon API Gateway (JSON)",
    '{"requestId":"c6af9ac6-7b61-11e6-9a41-93e8deadbeef","ip":"203.0.113.7","caller":"-","user":"-","requestT'
    'ime":"09/Apr/2024:12:34:56 '
    '+0000","httpMethod":"GET","resourcePath":"/pets","status":"200","protocol":"HTTP/1.1","responseLength":"'
    '120"}',
    "https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-logging.html",
    "ip|sourceIp|identity.sourceIp",
    "requestTime|requestTimeEpoch",
    "requestId",
    "status",
    roles={
        "client": ("ip", "sourceIp", "identity.sourceIp"),
        "time": ("requestTimeEpoch", "requestTime"),
        "status": ("status",),
    },
)
