"""Amazon API Gateway, in its example of the Common Log Format."""

from __future__ import annotations

from traffic.formats.template_format import template_format

API_GATEWAY_CLF = template_format(
    "api_gateway_clf",
    "Amazon API Gateway (CLF)",
    '203.0.113.7 - - [09/Apr/2024:12:34:56 +0000]"GET /pets HTTP/1.1" 200 120 c6af9ac6-7b61-11e6-9a41-93e8deadbeef',
    "https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-logging.html",
    '$remote_addr $caller $remote_user [$time_local]"$request_method $request_uri $server_protocol" $status '
    "$bytes_sent $request_id",
)
