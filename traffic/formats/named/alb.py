"""The Application Load Balancer of AWS."""

from __future__ import annotations

from traffic.formats.template_format import template_format

ALB = template_format(
    "alb",
    "AWS Application Load Balancer",
    "https 2018-07-02T22:23:00.186641Z app/my-loadbalancer/50dc6c495c0c9188 203.0.113.7:2817 10.0.0.1:80 "
    '0.086 0.048 0.037 200 200 0 57 "GET https://www.example.com:443/ HTTP/1.1" "curl/7.46.0" '
    "ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 "
    "arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/my-targets/73e2d6bc24d8a067 "
    '"Root=1-58337281-1d84f3d73c47ec4e58577259" "www.example.com" '
    '"arn:aws:acm:us-east-2:123456789012:certificate/12345678" 1 2018-07-02T22:22:48.364000Z '
    '"authenticate,forward" "-" "-" "10.0.0.1:80" "200" "-" "-"',
    "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html",
    "$type $time $elb $remote_addr $target $request_processing_time $target_processing_time "
    '$response_processing_time $status $target_status_code $received_bytes $sent_bytes "$request" '
    '"$http_user_agent" $ssl_cipher $ssl_protocol $target_group_arn "$trace_id" "$domain_name" '
    '"$chosen_cert_arn" $matched_rule_priority $request_creation_time "$actions_executed" "$redirect_url" '
    '"$error_reason" "$target_port_list" "$target_status_code_list" "$classification" "$classification_reason"',
    "$type $time $elb $remote_addr $target $request_processing_time $target_processing_time "
    '$response_processing_time $status $target_status_code $received_bytes $sent_bytes "$request" '
    '"$http_user_agent" $ssl_cipher $ssl_protocol $target_group_arn "$trace_id" "$domain_name" '
    '"$chosen_cert_arn" $matched_rule_priority $request_creation_time "$actions_executed" "$redirect_url" '
    '"$error_reason"',
    "$type $time $elb $remote_addr $target $request_processing_time $target_processing_time "
    '$response_processing_time $status $target_status_code $received_bytes $sent_bytes "$request" '
    '"$http_user_agent" $ssl_cipher $ssl_protocol $target_group_arn "$trace_id"',
    roles={"time": ("time",), "client": ("remote_addr",)},
)
