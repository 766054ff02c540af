"""Server access logs of Amazon S3. What S3 does by itself (expiry) is no request."""

from __future__ import annotations

from traffic.formats.filtered import only_where
from traffic.formats.template_format import template_format

S3 = only_where(
    template_format(
        "s3",
        "Amazon S3 server access log",
        "79a59df900b949e5 examplebucket [06/Feb/2019:00:00:38 +0000] 203.0.113.7 79a59df900b949e5 "
        '3E57427F3EXAMPLE REST.GET.VERSIONING - "GET /examplebucket?versioning HTTP/1.1" 200 - 113 - 7 - "-" '
        '"S3Console/0.4" - s9lzHYrFp76ZVxRcpX9+5cjAnEH2ROuNkd2BHfIa6UkFVdtjf5mKR3/eTPFvsiP/XV/VLi31234= SigV4 '
        "ECDHE-RSA-AES128-GCM-SHA256 AuthHeader examplebucket.s3.us-west-1.amazonaws.com TLSV1.2 "
        "arn:aws:s3:us-west-1:123456789012:accesspoint/example-AP Yes",
        "https://docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html",
        '$bucket_owner $bucket [$time_local] $remote_addr $requester $request_id $operation $key "$request" '
        '$status $error_code $bytes_sent $object_size $total_time $turn_around_time "$http_referer" '
        '"$http_user_agent" $version_id $host_id $signature_version $cipher_suite $authentication_type $host '
        "$tls_version",
        '$bucket_owner $bucket [$time_local] $remote_addr $requester $request_id $operation $key "$request" '
        '$status $error_code $bytes_sent $object_size $total_time $turn_around_time "$http_referer" '
        '"$http_user_agent" $version_id',
        # What S3 does for one request, or by itself, has no request of its own.
        "$bucket_owner $bucket [$time_local] $remote_addr $requester $request_id $operation $key - $status $error_code "
        "$bytes_sent $object_size $total_time $turn_around_time $http_referer $http_user_agent $version_id",
        roles={"client": ("remote_addr",), "user": ("requester",)},
    ),
    {"operation": "(?:REST|WEBSITE|SOAP)\\..*"},
)
