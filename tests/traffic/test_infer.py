"""A log's form is told from its lines, and none where that cannot be done for sure."""

from __future__ import annotations

import pytest

from traffic.formats.base import Block
from traffic.formats.infer import fitting_splitter, infer_splitter, infer_template
from traffic.formats.template import Template

WHO = "$remote_addr $remote_logname $remote_user [$time_local]"
COMMON = f'{WHO} "$request" $status $body_bytes_sent'
COMBINED = f'{COMMON} "$http_referer" "$http_user_agent"'
SHORT = '203.0.113.7 - - [12/Mar/2024:09:44:22 +0800] "GET /x HTTP/1.1" 200 5'
LINE = f'{SHORT} "-" "curl/7"'

CASES: dict[str, tuple[str, ...]] = {
    "blanks": (
        "$time_iso8601 $remote_addr $request $status $body_bytes_sent $field_6",
        "2024-05-10 06:25:24 203.0.113.7 GET /x 200 1234 0.003",
        "2024-05-10 06:25:25 198.51.100.9 GET /y?a=1 404 10 0.001",
    ),
    "bars": (
        "$remote_addr|$time_local|$request_method|$request_uri|$server_protocol|$status|$body_bytes_sent",
        "203.0.113.7|12/Mar/2024:09:44:22 +0800|GET|/x|HTTP/1.1|200|5",
        "203.0.113.8|12/Mar/2024:09:44:23 +0800|GET|/x|HTTP/1.1|429|5",
    ),
    "tabs": (
        "$time_iso8601\\t$remote_addr\\t$request\\t$status\\t$field_5\\t$field_6",
        "2024-05-10T06:25:24Z\t203.0.113.7\tGET /x HTTP/1.1\t200\tMozilla/5.0 (X11)\t-",
        "2024-05-10T06:25:24Z\t203.0.113.7\tGET /x HTTP/1.1\t200\tcurl/7\t-",
    ),
    "ltsv": (
        (
            "time:$time_local\\thost:$remote_addr\\treq:$request\\tstatus:$status\\tsize:$body_bytes_sent\\tua:$http_u"
            "ser_agent\\treqtime:$request_time"
        ),
        (
            "time:12/Mar/2024:09:44:22 +0800\thost:203.0.113.7\treq:GET /x "
            "HTTP/1.1\tstatus:200\tsize:5\tua:curl/7\treqtime:0.003"
        ),
        (
            "time:12/Mar/2024:09:44:22 +0800\thost:203.0.113.8\treq:GET /x "
            "HTTP/1.1\tstatus:429\tsize:5\tua:Mozilla/5.0 (X11)\treqtime:0.003"
        ),
    ),
    "keys_behind_combined": (
        (
            f'{COMBINED} rt=$request_time uct="$upstream_connect_time" uht="$upstream_header_time" '
            'urt="$upstream_response_time"'
        ),
        f'{LINE} rt=0.003 uct="0.000" uht="0.003" urt="0.003"',
    ),
    "ingress_nginx": (
        (f"{COMBINED} $field_10 $field_11 [$field_12] [$field_13] $upstream_addr $field_15 $field_16 $field_17 $request_id"),
        f"{LINE} 123 0.004 [default-svc-80] [] 10.0.0.1:8080 5 0.004 200 b0a8c7f8e1d24c55",
    ),
    "host_in_the_place_of_ident": (
        COMBINED,
        '203.0.113.7 www.example.org - [12/Mar/2024:09:44:22 +0800] "GET /x HTTP/1.1" 200 5 "-" "curl/7"',
    ),
    "list_before_the_proxy": (
        '$remote_addr $address $remote_logname $remote_user [$time_local] "$request" $status $body_bytes_sent',
        '203.0.113.7, 10.0.0.2 10.0.0.5 - - [12/Mar/2024:09:44:22 +0800] "GET /x HTTP/1.1" 200 5',
        '- 10.0.0.5 - - [12/Mar/2024:09:44:22 +0800] "GET /x HTTP/1.1" 200 5',
    ),
    "proxy_before_the_client": (
        (
            '$remote_addr $http_x_forwarded_for $remote_logname $remote_user [$time_local] "$request" $status '
            "$body_bytes_sent"
        ),
        f"10.0.0.5 {SHORT}",
        '10.0.0.5 198.51.100.9 - - [12/Mar/2024:09:44:22 +0800] "GET /x HTTP/1.1" 200 5',
    ),
    "without_an_address": (
        '[$time_local] "$request" $status $body_bytes_sent',
        '[10/May/2024 06:25:24] "GET /x HTTP/1.1" 200 12',
    ),
    "address_in_brackets": (
        '$time_iso8601 [$remote_addr] "$request" $status $field_5',
        '2024/05/10 06:25:24 [203.0.113.7] "GET /x HTTP/1.1" 200 12ms',
    ),
    "gin": (
        ('[$field_1] $date $field_3 $time | $status  |  $field_6  |  $remote_addr | $request_method  "$request_uri"'),
        '[GIN] 2024/05/10 - 06:25:24 | 200 |      81.9µs |     203.0.113.7 | GET      "/x"',
        '[GIN] 2024/05/10 - 06:25:25 | 404 |     1.2ms |     203.0.113.7 | GET      "/y"',
    ),
    "asctime": (
        COMMON,
        '203.0.113.7 - - [Fri May 10 06:25:24 2024] "GET /x HTTP/1.1" 200 5',
    ),
    "csv_without_a_header": (
        '"$time_iso8601","$remote_addr","$request","$status"',
        '"2024-05-10 06:25:24","203.0.113.7","GET /x HTTP/1.1","200"',
    ),
    "csv_with_commas_in_quotes": (
        '$remote_addr,$time_iso8601,"$request",$status,$field_5,"$http_user_agent"',
        '203.0.113.7,2024-05-10T06:25:24Z,"GET /x HTTP/1.1",200,,"Mozilla/5.0 (KHTML, like Gecko)"',
        '203.0.113.8,2024-05-10T06:25:24Z,"GET /x HTTP/1.1",429,,"curl/7"',
    ),
    "csv_with_a_dash_for_the_size": (
        "$remote_addr,$remote_user,$time_local,$request,$status,$field_6",
        "203.0.113.7,-,12/Mar/2024:09:44:22 +0800,GET /x HTTP/1.1,200,-",
    ),
    "brackets": (
        "[$time_iso8601] [$remote_addr] [$request] [$status] [$field_5]",
        "[2024-05-10T06:25:24.512+00:00] [203.0.113.7] [GET /x HTTP/1.1] [200] [0.003]",
    ),
    "keys_of_numbers_with_units": (
        "$time_iso8601 $remote_addr $request $status duration=$duration_text rt=$request_time",
        "2024-05-10T06:25:24Z 203.0.113.7 GET /x 200 duration=12ms rt=0.012",
    ),
    "application_log": (
        "$time_iso8601 $field_2 $remote_addr $request $status $field_6",
        "2024-05-10 06:25:24,512 INFO 203.0.113.7 GET /a 200 5ms",
        "2024-05-10 06:25:24,513 WARN 203.0.113.8 POST /b 429 1ms",
    ),
    "duration_behind_combined": (
        f"{COMBINED} $field_10",
        f"{LINE} 1234",
    ),
    "status_last": (
        '$remote_addr [$time_local] $field_3 $field_4 "$request" $field_6 $status',
        '203.0.113.7 [12/Mar/2024:09:44:22 +0800] 5 0.003 "GET /x HTTP/1.1" - 429',
    ),
    "epoch_first": (
        "$msec $remote_addr $request $status $body_bytes_sent",
        "1715322324.512 203.0.113.7 GET /x 200 5",
        "1715322324.912 203.0.113.7 GET /x 429 5",
    ),
    "milliseconds_first": (
        '$time_msec $remote_addr "$request" $status $body_bytes_sent',
        '1715322324512 203.0.113.7 "GET /x HTTP/1.1" 200 5',
        '1715322324912 203.0.113.7 "GET /x HTTP/1.1" 429 5',
    ),
    "semicolons": (
        "$time_local;$remote_addr;$request;$status;$body_bytes_sent",
        "12/Mar/2024:09:44:22 +0800;203.0.113.7;GET /x HTTP/1.1;200;5",
        "12/Mar/2024:09:44:23 +0800;203.0.113.8;GET /x HTTP/1.1;429;5",
    ),
    "user_and_id_behind": (
        f'{COMBINED} "$field_10" "$request_id"',
        f'{LINE} "user-42" "b0a8c7f8e1d24c55"',
    ),
    "quoted_list_first": (
        (
            '"$remote_addr" $address $remote_logname $remote_user [$time_local] "$request" $status '
            '$body_bytes_sent "$http_referer" "$http_user_agent"'
        ),
        ('"203.0.113.7, 10.0.0.1" 10.0.0.5 - - [12/Mar/2024:09:44:22 +0800] "GET /x HTTP/1.1" 200 5 "-" "curl/7"'),
    ),
    "keys_and_bars": (
        (
            "ip: $remote_addr | time: $time_iso8601 | method: $request_method | path: $path | status: $status | "
            "bytes: $body_bytes_sent"
        ),
        "ip: 203.0.113.7 | time: 2024-05-10T06:25:24Z | method: GET | path: /x | status: 200 | bytes: 5",
    ),
    "date_and_time_in_two": (
        "$date\\t$time\\t$remote_addr\\t$request_method\\t$request_uri\\t$status\\t$body_bytes_sent",
        "2024-05-10\t06:25:24\t203.0.113.7\tGET\t/x\t200\t5",
        "2024-05-10\t06:25:25\t203.0.113.7\tGET\t/x\t429\t5",
    ),
    "nginx_time_before_request": (
        (f'{WHO} $field_5 $field_6 "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" "$field_12"'),
        ('203.0.113.7 - root [08/Aug/2017:15:06:01 +0800] 0.067 0.067 "GET /admin/ HTTP/1.1" 200 3632 "-" "curl/7" "-"'),
    ),
    "status_shifted_common": (
        f'{WHO} "$request" $field_6 $status $body_bytes_sent',
        '203.0.113.7 - - [12/Mar/2024:09:44:22 +0800] "GET /report HTTP/1.1" 471 429 555',
        '203.0.113.7 - - [12/Mar/2024:09:44:23 +0800] "GET /report HTTP/1.1" 471 200 555',
    ),
    "msec_appended": (
        f"{COMBINED} $msec",
        '203.0.113.7 - - [05/Oct/2022:03:35:39 +0700] "POST /v2/r HTTP/2.0" 422 35 "-" "o" 1664915739.787',
        '203.0.113.7 - - [05/Oct/2022:03:35:39 +0700] "POST /v2/r HTTP/2.0" 200 35 "-" "o" 1664915739.912',
    ),
    "xff_appended": (
        f'{COMBINED} "$http_x_forwarded_for"',
        ('10.0.0.5 - - [13/Oct/2022:18:13:24 +0000] "GET /news HTTP/1.1" 200 49781 "-" "bot/7" "203.0.113.7, 10.0.0.5"'),
        '10.0.0.5 - - [13/Oct/2022:18:13:24 +0000] "GET /news HTTP/1.1" 200 49781 "-" "bot/7" "198.51.100.9"',
        ('10.0.0.5 - - [13/Oct/2022:18:13:25 +0000] "GET /news HTTP/1.1" 429 0 "-" "bot/7" "203.0.113.7, 10.0.0.5"'),
    ),
    "xff_is_client": (
        COMBINED,
        '203.0.113.7, 10.1.1.1 - - [14/Oct/2016:17:05:26 +0200] "GET /c.css HTTP/1.1" 200 842 "-" "x"',
        '198.51.100.9 - - [14/Oct/2016:17:05:27 +0200] "GET /c.css HTTP/1.1" 200 842 "-" "x"',
        '- - - [14/Oct/2016:17:05:28 +0200] "GET /healthz HTTP/1.1" 200 2 "-" "kube-probe"',
    ),
    "user_space": (
        COMBINED,
        '203.0.113.7 - "car 5941" [09/Apr/2012:14:35:48 -0400] "GET /favicon.ico HTTP/1.1" 200 125 "-" "M"',
        '203.0.113.7 - john smith [09/Apr/2012:14:35:49 -0400] "GET /x HTTP/1.1" 200 125 "-" "M"',
        '203.0.113.7 - "" [09/Apr/2012:14:35:50 -0400] "GET /x HTTP/1.1" 200 125 "-" "M"',
        '198.51.100.9 - bob@EXAMPLE.COM [09/Apr/2012:14:35:51 -0400] "GET /x HTTP/1.1" 200 125 "-" "M"',
    ),
    "msec_stamp": (
        COMBINED,
        '203.0.113.7 - - [12/Mar/2024:09:44:22.123 +0800] "GET /x HTTP/1.1" 200 5 "-" "c"',
    ),
    "custom_order": (
        (
            "[$time_local] $remote_addr -> $upstream_addr | $scheme $request | urt: $upstream_response_time msec "
            "| rt: $request_time msec | status: $status"
        ),
        (
            "[05/Aug/2019:20:45:55 +0100] 203.0.113.7 -> 10.0.0.1 | https POST /api/post HTTP/1.1 | urt: 0.016 "
            "msec | rt: 0.016 msec | status: 200"
        ),
    ),
    "vhost_combined": (
        f'$server_name:$server_port {COMBINED} "$field_11" "$field_12" "$http_x_forwarded_for"',
        (
            'www.example.org:443 203.0.113.7 - - [21/Jan/2021:17:19:53 +0800] "GET /a HTTP/1.1" 200 207364 "-" '
            '"bot/1" "SG" "Singapore" "54.0.2.1, 10.0.0.1"'
        ),
        (
            'id.example.org:80 198.51.100.9 - - [21/Jan/2021:17:19:54 +0800] "POST /b HTTP/1.1" 200 45030 "-" '
            '"bot/1" "MY" "Shah Alam" "124.0.2.119, 10.0.0.1"'
        ),
    ),
}
"""Of each log its form, and lines."""


def _block(*lines: str) -> Block:
    return Block("".join(f"{line}\n" for line in lines).encode())


@pytest.mark.parametrize("name", CASES)
def test_a_form_is_told_from_the_lines(name: str) -> None:
    form, *lines = CASES[name]
    template = infer_template(_block(*lines))
    assert str(template) == form
    assert template is not None
    fields = template.splitter().split(_block(*lines), template.splitter().names)
    assert len(fields) == len(lines)
    assert fields.columns["rest"].null_count == len(lines)


@pytest.mark.parametrize(
    "lines",
    [
        ["a b c", "d e f"],
        ["2024-05-10 06:25:24,512 INFO worker 5 started", "2024-05-10 06:25:24,513 INFO worker 6 started"],
        ["May 10 06:25:24 mail postfix/smtpd[123]: connect from unknown[203.0.113.7]"],
        ["203.0.113.7 GET /x 200 1234567890", "203.0.113.7 GET /x 200 2134567890"],  # numbers of ten digits, but no clock
        ["2024-05-10 06:25:24 203.0.113.7 5", "2024-05-10 06:25:25 203.0.113.7 7"],
        ["2024-05-10 06:25:24 INFO 203.0.113.7 connected 200"],  # of milliseconds, as far as anybody can tell
        ["2024-05-10 06:25:24 INFO /opt/app/main.py 203.0.113.7 started"],
        [LINE, "other words", "of a program", "that are no requests"],
        ["   "],
    ],
)
def test_what_is_no_log_of_requests_is_not_guessed(lines: list[str]) -> None:
    assert infer_template(_block(*lines)) is None


def test_a_column_with_one_value_that_is_no_status_is_none() -> None:
    def line(second: int, length: int, status: int) -> str:
        return f'203.0.113.7 - - [12/Mar/2024:09:44:{second:02d} +0800] "GET /x HTTP/1.1" {length} {status} 77'

    lengths = [200] * 29 + [471]
    lines = [line(i, length, (200, 429)[i % 2]) for i, length in enumerate(lengths)]
    assert str(infer_template(_block(*lines))) == f'{WHO} "$request" $field_6 $status $body_bytes_sent'


def test_a_usual_status_goes_before_a_rare_one() -> None:
    lines = [f"{SHORT.removesuffix('200 5')}431 {status} 555" for status in (429, 200)]
    assert str(infer_template(_block(*lines))) == f'{WHO} "$request" $field_6 $status $body_bytes_sent'


def test_lines_with_and_without_what_is_appended_are_read() -> None:
    lines = [f"{LINE} 1710207862.123", LINE, f"{LINE} 1710207862.456"]
    splitter = fitting_splitter(_block(*lines), [Template.parse("combined")])
    assert splitter is not None
    fields = splitter.split(_block(*lines), ("msec", "status", "rest"))
    assert fields.columns["msec"].to_pylist() == ["1710207862.123", None, "1710207862.456"]
    assert fields.columns["status"].to_pylist() == ["200"] * 3


def test_lines_of_further_forms_are_read_if_they_are_requests() -> None:
    lines = [
        *(f"2024-05-10T06:25:{second}Z 203.0.113.7 GET /a 200 5 0.1 x" for second in range(10, 14)),
        "2024-05-10T06:25:15Z 203.0.113.8 GET /a 429 5",
        '2024-05-10T06:25:15Z [error] no such file, client: 203.0.113.9, request: "GET /x HTTP/1.1"',
    ]
    splitter = infer_splitter(_block(*lines))
    assert splitter is not None
    fields = splitter.split(_block(*lines), splitter.names)
    assert fields.columns["remote_addr"].to_pylist() == ["203.0.113.7"] * 4 + ["203.0.113.8"]
    assert fields.columns["status"].to_pylist() == ["200"] * 4 + ["429"]
    assert fields.skipped == [lines[-1]]


def test_a_field_without_a_name_is_not_joined_with_one_of_another_form() -> None:
    lines = [
        *(f"2024-05-10T06:25:{second}Z 203.0.113.7 GET /a 200 5 0.1 x" for second in range(10, 14)),
        "x 2024-05-10T06:25:15Z 203.0.113.8 GET /a 200",
    ]
    splitter = infer_splitter(_block(*lines))
    assert splitter is not None
    assert "field_1_of_form_2" in splitter.names
    assert "field_1" not in splitter.names


def test_a_client_may_be_a_hash() -> None:
    line = LINE.replace("203.0.113.7", "k3J+a==")
    assert fitting_splitter(_block(line), [Template.parse("combined")]) is not None


def test_numbers_far_from_the_stamp_beside_them_are_no_times() -> None:
    assert str(infer_template(_block(f"{LINE} 1610207862.123"))) == f"{COMBINED} $field_10"


@pytest.mark.parametrize(
    "line",
    [
        f"www.example.org {LINE}",  # the host is no client
        LINE.replace(" 200 ", " 471 ", 1),
        LINE.replace("12/Mar/2024:09:44:22 +0800", "no time"),
        LINE.rstrip('"'),
    ],
)
def test_a_named_form_with_values_that_it_cannot_have_is_not_taken(line: str) -> None:
    assert fitting_splitter(_block(line), [Template.parse("combined")]) is None
