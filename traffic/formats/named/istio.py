"""Istio's default access log, also of older versions. A line of a TCP connection is no request."""

from __future__ import annotations

from traffic.formats.filtered import only_where
from traffic.formats.template_format import template_format

REQUEST = '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS%'
DETAILS = (
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%"',
    '"%DYNAMIC_METADATA(istio.mixer:status)%" "%UPSTREAM_TRANSPORT_FAILURE_REASON%"',
)
REST = (
    '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" '
    '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% '
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%"
)

ISTIO = only_where(
    template_format(
        "istio",
        "Istio",
        '[2020-11-25T21:26:18.409Z] "GET /status/418 HTTP/1.1" 418 - via_upstream - "-" 0 135 4 4 "-" '
        '"curl/7.73.0-DEV" "84961386-6d84-929d-98bd-c5aee93b5c88" "httpbin:8000" "127.0.0.1:80" inbound|8000|| '
        "127.0.0.1:41854 10.44.1.27:80 203.0.113.7:37652 outbound_.8000_._.httpbin.foo.svc.cluster.local default",
        "https://istio.io/latest/docs/tasks/observability/logs/access-log/",
        *(f"{REQUEST} {details} {REST}" for details in DETAILS),
        roles={"client": ("remote_addr",)},
    ),
    {"request_method": "[A-Z]+.*"},
)
