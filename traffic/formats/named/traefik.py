"""Traefik's access log in its text form."""

from __future__ import annotations

from traffic.formats.template_format import template_format

TRAEFIK = template_format(
    "traefik",
    "Traefik (CLF)",
    '203.0.113.7 - - [14/Nov/2024:17:58:01 +0000] "GET /dashboard HTTP/1.1" 200 1023 "-" "curl/8.4.0" 42 '
    '"web@docker" "http://10.0.0.2:80" 18ms',
    "https://doc.traefik.io/traefik/observability/access-logs/",
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" '
    '"$http_user_agent" $requests "$router" "$server_url" ${duration_ms}ms',
)
