"""What collectors put around lines: found by its form, and peeled so that lines keep their numbers."""

from __future__ import annotations

import json

import pytest

from traffic.formats.base import Block
from traffic.formats.wrappers import find_wrapper

ACCESS = '203.0.113.7 - - [10/May/2024:06:25:24 +0000] "GET /api HTTP/1.1" 200 1023 "-" "curl/8.4.0"'
JSON = '{"remote_addr":"203.0.113.7","status":200}'
STAMP = "2024-05-10T06:25:24.612345678Z"
ROUTER = 'at=info method=GET path="/v1/x" fwd="203.0.113.7" status=200'


def docker(text: str, stream: str = "stdout", **more: object) -> str:
    return json.dumps({"log": text, "stream": stream, **more, "time": STAMP}, separators=(",", ":"))


WRAPPED = {
    "docker": (docker(ACCESS + "\n"), ACCESS, STAMP),
    "docker with labels": (docker(ACCESS + "\r\n", attrs={"tag": "web"}), ACCESS, STAMP),
    "docker's escapes": (
        docker('{"request":"GET /?a=1&b=<","agent":"\\\\x22"}\n').replace("&", r"\u0026").replace("<", r"\u003c"),
        r'{"request":"GET /?a=1&b=<","agent":"\\x22"}',
        STAMP,
    ),
    "docker's line of several": (docker(f"a\n{ACCESS}\n"), "a " + ACCESS, STAMP),
    "CRI": (f"{STAMP} stdout F {ACCESS}", ACCESS, STAMP),
    "CRI east of Greenwich": (f"2024-05-10T08:25:24.1+02:00 stdout F {JSON}", JSON, "2024-05-10T08:25:24.1+02:00"),
    "kubectl --prefix": (f"[pod/ingress-nginx-controller-79pmx/controller] {ACCESS}", ACCESS, None),
    "kubectl --prefix --timestamps": (f"[pod/web-1/nginx] {STAMP} {ACCESS}", ACCESS, STAMP),
    "kubectl --timestamps": (f"{STAMP} {ACCESS}", ACCESS, STAMP),
    "stern": (f"ingress-nginx-79pmx controller {ACCESS}", ACCESS, None),
    "compose": (f"web-1  | {ACCESS}", ACCESS, None),
    "compose in color": (f"\x1b[36mweb-1  | \x1b[0m{JSON}", JSON, None),
    "RFC 3164": (f"May 10 06:25:24 edge1 nginx: {ACCESS}", ACCESS, "May 10 06:25:24"),
    "RFC 3164 with a priority": (f"<190>May  1 06:25:24 edge1 nginx: {ACCESS}", ACCESS, "May  1 06:25:24"),
    "RFC 3164 without a host": (f"<134>Feb  6 12:14:14 haproxy[14389]: {ACCESS}", ACCESS, "Feb  6 12:14:14"),
    "RFC 5424": (f"<190>1 {STAMP} edge1 nginx - - - {ACCESS}", ACCESS, STAMP),
    "RFC 5424 with data": (f'<190>1 {STAMP} edge1 nginx 7 ID47 [a@1 x="y]"][b c="d\\""] \ufeff{ACCESS}', ACCESS, STAMP),
    "rsyslog's file": (
        f"2024-05-10T06:25:24.123456+00:00 edge1 nginx: {ACCESS}",
        ACCESS,
        "2024-05-10T06:25:24.123456+00:00",
    ),
    "journald short-iso": (f"2024-05-10T06:25:24+0000 edge1 nginx[12]: {ACCESS}", ACCESS, "2024-05-10T06:25:24+0000"),
    "journald short-unix": (f"1715322324.123456 edge1 nginx[12]: {ACCESS}", ACCESS, "1715322324.123456"),
    "Heroku's drain": (
        f"83 <158>1 2012-10-11T03:47:20+00:00 host heroku router - {ROUTER}",
        ROUTER,
        "2012-10-11T03:47:20+00:00",
    ),
    "heroku logs": (f"2024-05-10T06:25:24.5+00:00 heroku[router]: {ROUTER}", ROUTER, "2024-05-10T06:25:24.5+00:00"),
    "Loki": (f'{STAMP} {{app="nginx", pod="x"}} {ACCESS}', ACCESS, STAMP),
    "fluentd around docker": (
        f"2024-05-10T06:25:24+00:00\tkube.web\t{docker(ACCESS + chr(10))}",
        ACCESS,
        "2024-05-10T06:25:24+00:00",
    ),
    "Papertrail": (
        f"1\t2024-05-10T06:25:24Z\t2024-05-10T06:25:25Z\t2\tweb\t203.0.113.1\tUser\tInfo\tnginx\t{ACCESS}",
        ACCESS,
        "2024-05-10T06:25:24Z",
    ),
    "CloudWatch": (f"2024-05-10T06:25:24.512Z {JSON}", JSON, "2024-05-10T06:25:24.512Z"),
    "CloudWatch with streams": (
        f"2024-05-10T06:25:24.512000+00:00 ecs/web/1f0a {ACCESS}",
        ACCESS,
        "2024-05-10T06:25:24.512000+00:00",
    ),
    "journald": (
        json.dumps({"__REALTIME_TIMESTAMP": "1715322324123456", "SYSLOG_IDENTIFIER": "nginx", "MESSAGE": ACCESS}),
        ACCESS,
        "1715322324123456",
    ),
    "Filebeat": (
        json.dumps({"@timestamp": STAMP, "log": {"offset": 1, "file": {"path": "/a.log"}}, "message": ACCESS}),
        ACCESS,
        STAMP,
    ),
    "Fluent Bit": (json.dumps({"date": 1715322324.25, "log": ACCESS, "stream": "stdout"}), ACCESS, 1715322324.25),
    "Google Cloud": (
        json.dumps({"textPayload": ACCESS, "resource": {"labels": {"container_name": "nginx"}}, "timestamp": STAMP}),
        ACCESS,
        STAMP,
    ),
    "Splunk": (json.dumps({"preview": False, "result": {"_raw": ACCESS, "_time": STAMP}}), ACCESS, STAMP),
    "logcli as JSON": (json.dumps({"labels": {"app": "nginx"}, "line": ACCESS, "timestamp": STAMP}), ACCESS, STAMP),
    "a shipper's JSON with JSON inside": (json.dumps({"message": JSON, "timestamp": STAMP, "service": "web"}), JSON, STAMP),
    "a line of uvicorn": (
        json.dumps({"asctime": STAMP, "time": STAMP, "message": '127.0.0.1:5 - "GET / HTTP/1.1" 200'}),
        '127.0.0.1:5 - "GET / HTTP/1.1" 200',
        STAMP,
    ),
    **{
        f"uvicorn behind a logger's {stamp}": (
            json.dumps({stamp: STAMP, "message": '127.0.0.1:5 - "GET / HTTP/1.1" 200'}),
            '127.0.0.1:5 - "GET / HTTP/1.1" 200',
            STAMP,
        )
        for stamp in ("asctime", "datetime", "log_time")
    },
    "zap's console": (
        f"2024/05/10 06:25:24.512\tINFO\thttp.log.access\thandled request\t{JSON}",
        JSON,
        "2024/05/10 06:25:24.512",
    ),
    "Ruby's logger": (
        f"I, [2024-05-10T06:25:24.512345 #4]  INFO -- : [8601b555] {ROUTER}",
        ROUTER,
        "2024-05-10T06:25:24.512345",
    ),
    "CRI around syslog": (f"{STAMP} stdout F <190>May 10 06:25:24 edge1 nginx: {ACCESS}", ACCESS, STAMP),
}


@pytest.mark.parametrize(("line", "inner", "stamp"), WRAPPED.values(), ids=WRAPPED)
def test_the_collectors_part_of_a_line_is_peeled(line: str, inner: str, stamp: str | float | None) -> None:
    block = Block(f"{line}\n{line}\n".encode(), 41)
    wrapper = find_wrapper(block)
    assert wrapper is not None
    peeled = wrapper.peel(block)
    assert peeled.block == Block(f"{inner}\n{inner}\n".encode(), 41)
    assert (peeled.stamps.to_pylist() if peeled.stamps is not None else None) == ([stamp] * 2 if stamp else None)
    assert peeled.ignored == 0
    assert wrapper.peel(block, stamps=False).stamps is None
    assert wrapper.close() is None


@pytest.mark.parametrize(
    "line",
    [
        ACCESS,
        "www.example.org:443 " + ACCESS,
        "www.example.org " + ACCESS,
        JSON,
        "2015-05-13T23:39:43.945958Z my-loadbalancer 203.0.113.7:2817 10.0.0.1:80 0.000073 0.001048 0.000057 200 200 0 29 "
        '"GET http://www.example.org:80/ HTTP/1.1" "curl/7.38.0" - -',
        "2024-05-10 06:25:24 203.0.113.7 GET /api - 200",
        '[2016-04-15T20:17:00.310Z] "POST /api HTTP/2" 204 - 154 0 226 100 "203.0.113.7" "agent" "id" "host" "-"',
        "timestamp|client|status",
        json.dumps({"message": "GET /a HTTP/1.1", "remote_addr": "203.0.113.7", "time": STAMP}),
        json.dumps({"level": "info", "msg": "handled request", "request": {"client_ip": "203.0.113.7"}, "status": 200}),
    ],
)
def test_a_line_as_its_program_wrote_it_has_no_wrapper(line: str) -> None:
    assert find_wrapper(Block(f"{line}\n".encode() * 3)) is None


@pytest.mark.parametrize("form", ["{0} {1} F {2}", '{{"log":"{2}\\n","stream":"{1}","time":"{0}"}}'])
def test_the_other_stream_is_ignored_where_only_one_has_requests(form: str) -> None:
    access, error = (
        "203.0.113.7 - - [10/May/2024:06:25:24 +0000]",
        "2024/05/10 06:25:25 [warn] 7#7: a client, request: GET / HTTP/1.1",
    )
    lines = [form.format(STAMP, "stdout", access), form.format(STAMP, "stderr", error), form.format(STAMP, "stdout", access)]
    block = Block("".join(line + "\n" for line in lines).encode())
    wrapper = find_wrapper(block)
    assert wrapper is not None
    peeled = wrapper.peel(block)
    assert peeled.block.data.decode() == f"{access}\n\n{access}\n"
    assert peeled.ignored == 1
    # A program that writes its requests to stderr (Caddy) is read.
    moved = Block(block.data.replace(b"stdout", b"stdxxx").replace(b"stderr", b"stdout").replace(b"stdxxx", b"stderr"))
    wrapper = find_wrapper(moved)
    assert wrapper is not None
    assert wrapper.peel(moved).block.data == peeled.block.data


def test_lines_of_other_programs_and_the_repetitions_of_the_dyno_are_ignored() -> None:
    router = f"2024-05-10T06:25:24.5+00:00 heroku[router]: {ROUTER}\n"
    dyno = "2024-05-10T06:25:24.6+00:00 app[web.1]: method=GET path=/v1/x status=200\n"
    state = "2024-05-10T06:25:24.7+00:00 heroku[web.1]: State changed from up to down\n"
    block = Block((router + dyno + state).encode())
    wrapper = find_wrapper(block)
    assert wrapper is not None
    peeled = wrapper.peel(block)
    assert peeled.block.data.decode() == f"{ROUTER}\n\n\n"
    assert peeled.ignored == 2
    alone = find_wrapper(Block(dyno.encode()))
    assert alone is not None
    assert alone.peel(Block(dyno.encode())).block.data == b"method=GET path=/v1/x status=200\n"


PARTS = {
    "CRI": [f"{STAMP} stdout P aa", f"{STAMP} stderr F [warn]", f"{STAMP} stdout P bb", f"{STAMP} stdout F {ACCESS}"],
    "docker": [docker("aa"), docker("[warn]\n", "stderr"), docker("bb"), docker(ACCESS + "\n")],
}


@pytest.mark.parametrize("lines", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("first", [1, 3, 4])
def test_a_line_in_parts_is_joined_also_over_blocks(lines: list[str], first: int) -> None:
    whole = Block("".join(line + "\n" for line in lines).encode())
    wrapper = find_wrapper(whole)
    assert wrapper is not None
    assert wrapper.in_order
    parts = [Block("".join(line + "\n" for line in part).encode()) for part in (lines[:first], lines[first:])]
    peeled = [wrapper.peel(part) for part in parts if part.data]
    assert b"".join(part.block.data for part in peeled).decode() == f"\n\n\naabb{ACCESS}\n"
    assert sum(part.ignored for part in peeled) == 3
    assert wrapper.close() is None
    wrapper.peel(parts[0])
    assert (wrapper.close() is None) == (first == 4)


@pytest.mark.parametrize("line", [f"web-1  | {ACCESS}", f"{STAMP} stdout F {ACCESS}", docker(ACCESS), docker(ACCESS + "\n")])
def test_a_line_without_the_wrapper_stays_as_it_is(line: str) -> None:
    block = Block(f"{line}\n\n  at java.lang.Thread\n{line}\n".encode())
    wrapper = find_wrapper(block)
    assert wrapper is not None
    peeled = wrapper.peel(block)
    assert peeled.block.data.decode() == f"{ACCESS}\n\n  at java.lang.Thread\n{ACCESS}\n"
    assert peeled.ignored == 0
    assert peeled.stamps is None or [stamp is None for stamp in peeled.stamps.to_pylist()] == [False, True, True, False]


EMPTY = {
    "docker": docker("\n"),
    "CRI": f"{STAMP} stdout F ",
    "compose": "web-1  | ",
    "another shipper": json.dumps({"message": "", "timestamp": STAMP}),
}
FULL = {
    "docker": docker(ACCESS + "\n"),
    "CRI": f"{STAMP} stdout F {ACCESS}",
    "compose": f"web-1  | {ACCESS}",
    "another shipper": json.dumps({"message": ACCESS, "timestamp": STAMP}),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_line_with_nothing_inside_is_ignored(name: str) -> None:
    block = Block(f"{FULL[name]}\n{EMPTY[name]}\n{FULL[name]}\n".encode())
    wrapper = find_wrapper(block)
    assert wrapper is not None
    peeled = wrapper.peel(block)
    assert peeled.block.data.decode() == f"{ACCESS}\n\n{ACCESS}\n"
    assert peeled.ignored == 1


def test_an_object_without_the_line_is_not_dropped_in_silence() -> None:
    odd = json.dumps({"jsonPayload": {"a": 1}, "timestamp": STAMP})
    full = json.dumps({"textPayload": ACCESS, "timestamp": STAMP})
    block = Block(f"{full}\n{odd}\n\n{full}\n".encode())
    wrapper = find_wrapper(block)
    assert wrapper is not None
    peeled = wrapper.peel(block)
    assert peeled.block.data.decode() == f"{ACCESS}\n{odd}\n\n{ACCESS}\n"
    assert peeled.ignored == 0


def test_several_services_with_requests_are_said() -> None:
    lines = [f"{name} | {ACCESS}\n" for name in ("web-1", "web-2", "app-1", "db-1")]
    wrapper = find_wrapper(Block("".join(lines[:2]).encode()))
    assert wrapper is not None
    assert wrapper.assumed == ()
    wrapper = find_wrapper(Block("".join([*lines[:3], "db-1 | LOG: checkpoint\n"]).encode()))
    assert wrapper is not None
    assert wrapper.assumed == ("sources: 2 have requests (web-2, app-1); what one passes on to another is counted twice",)


@pytest.mark.parametrize("stream", [None, 7, "stdout"])
def test_objects_may_have_odd_streams_and_messages(stream: object) -> None:
    lines = [json.dumps({"log": ACCESS, "stream": "stdout"}), json.dumps({"log": "x", "stream": stream})]
    block = Block("".join(line + "\n" for line in lines).encode())
    for first in (block, Block(f"{lines[0]}\n".encode()), Block(f"{lines[0]}\n".encode().replace(b"stdout", b"web"))):
        wrapper = find_wrapper(first)
        assert wrapper is not None
        assert wrapper.peel(Block(b'{"log":7,"stream":"stdout"}\n')).block.data == b"7\n"
        peeled = wrapper.peel(block)
        assert peeled.block.data.decode() in (f"{ACCESS}\nx\n", f"{ACCESS}\n\n")
        assert peeled.ignored == peeled.block.data.count(b"\n\n")
