"""Azure's Front Door and Application Gateway. Entries of health probes and the firewall are no requests."""

from __future__ import annotations

from traffic.formats.fields_format import fields_format

AZURE = fields_format(
    "azure",
    "Azure Front Door, Application Gateway",
    '{"time":"2021-01-18T18:02:55.3460000Z","category":"FrontDoorAccessLog","operationName":"Microsoft.Cdn/Pr'
    'ofiles/AccessLog/Write","properties":{"trackingReference":"0","httpMethod":"GET","requestUri":"https://e'
    'xample.org:443/","clientIp":"203.0.113.7","clientPort":"50310","httpStatusCode":"200"}}',
    "https://learn.microsoft.com/azure/frontdoor/monitor-front-door",
    "properties.clientIp|properties.clientIP",
    "category",
    "time|timeStamp|properties.timeStamp",
    roles={
        "client": ("properties.clientIp", "properties.clientIP"),
        "time": ("time", "timeStamp", "properties.timeStamp"),
        "status": ("properties.httpStatusCode", "properties.httpStatus"),
        "method": ("properties.httpMethod",),
        "path": ("properties.requestUri",),
    },
    only={"category": ".*Access.*"},
)
