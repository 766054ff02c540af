"""The Common Log Format."""

from __future__ import annotations

from traffic.formats.template_format import template_format

COMMON = template_format(
    "common",
    "Apache, Tomcat, Jetty, Node.js (morgan)",
    '203.0.113.7 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326',
    "https://httpd.apache.org/docs/2.4/logs.html#common",
    '%h %l %u %t "%r" %>s %b',
)
