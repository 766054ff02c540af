"""Calls of the AWS API, one record each."""

from __future__ import annotations

from traffic.formats.fields_format import fields_format

CLOUDTRAIL = fields_format(
    "cloudtrail",
    "AWS CloudTrail",
    '{"eventVersion":"1.08","userIdentity":{"arn":"arn:aws:iam::123456789012:user/acme"},"eventTime":"2023-07'
    '-19T21:17:28Z","eventSource":"ec2.amazonaws.com","eventName":"StartInstances","sourceIPAddress":"203.0.1'
    '13.7"}',
    "https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference.html",
    "eventTime",
    "eventName",
    "sourceIPAddress",
    roles={"client": ("sourceIPAddress",), "time": ("eventTime",), "user": ("userIdentity.arn",), "path": ("eventName",)},
)
