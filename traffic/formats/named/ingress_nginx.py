"""The ingress controller of nginx for Kubernetes (`upstreaminfo`), also of older versions."""

from __future__ import annotations

from traffic.formats.template_format import template_format

REQUEST = (
    '$remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" '
    "$request_length $request_time [$proxy_upstream_name]"
)
UPSTREAM = "$upstream_addr $upstream_response_length $upstream_response_time $upstream_status"
VERSIONS = (" [$proxy_alternative_upstream_name]", " $req_id"), ("", " $req_id"), ("", "")

INGRESS_NGINX = template_format(
    "ingress_nginx",
    "ingress-nginx (Kubernetes)",
    '203.0.113.7 - - [10/May/2024:06:25:24 +0000] "GET /api HTTP/1.1" 200 1023 "-" "curl/8.4.0" 77 0.004 '
    "[default-web-80] [] 10.1.0.9:8080 1023 0.004 200 b9c1f4d2a0e35f1c",
    "https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/log-format/",
    *(
        f"$remote_addr{real} - {REQUEST}{other} {UPSTREAM}{id}"
        for real in ("", " - [$the_real_ip]")
        for other, id in VERSIONS
    ),
    roles={"client": ("the_real_ip", "remote_addr")},
)
