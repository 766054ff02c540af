"""Apache's and nginx's `combined`, which many servers write."""

from __future__ import annotations

from traffic.formats.template_format import template_format

COMBINED = template_format(
    "combined",
    "Apache, nginx, lighttpd, Varnish, gunicorn, Squid",
    '203.0.113.7 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326 '
    '"http://www.example.com/start.html" "Mozilla/4.08 [en] (Win98; I ;Nav)"',
    "https://httpd.apache.org/docs/2.4/logs.html#combined",
    '%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"',
)
