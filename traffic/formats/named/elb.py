"""The Classic Load Balancer of AWS, of http listeners."""

from __future__ import annotations

from traffic.formats.template_format import template_format

ELB = template_format(
    "elb",
    "AWS Classic Load Balancer",
    "2015-05-13T23:39:43.945958Z my-loadbalancer 203.0.113.7:2817 10.0.0.1:80 0.000086 0.001048 0.001337 200 "
    '200 0 57 "GET https://www.example.com:443/ HTTP/1.1" "curl/7.38.0" DHE-RSA-AES128-SHA TLSv1.2',
    "https://docs.aws.amazon.com/elasticloadbalancing/latest/classic/access-log-collection.html",
    "$time $elb $remote_addr $backend $request_processing_time $backend_processing_time "
    '$response_processing_time $status $backend_status_code $received_bytes $sent_bytes "$request" '
    '"$http_user_agent" $ssl_cipher $ssl_protocol',
    "$time $elb $remote_addr $backend $request_processing_time $backend_processing_time "
    '$response_processing_time $status $backend_status_code $received_bytes $sent_bytes "$request"',
    roles={"time": ("time",), "client": ("remote_addr",)},
)
