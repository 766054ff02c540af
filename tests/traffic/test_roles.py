import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from traffic import LogError, read_log
from traffic.formats.base import Fields, FormatMismatchError, Roles
from traffic.formats.field_selection import FieldSelection
from traffic.formats.role_names import ROLES
from traffic.formats.roles import paths_of_urls, resolve, status_codes
from traffic.times.timestamps import Judgement, Stamps, TimeReader

TIME = "2024-05-10T06:25:24.512Z"
CLIENT = "203.0.113.7"


class Judge:
    def judge(self, values: pa.Array) -> Judgement:
        return TimeReader().judge(values)

    def read(self, values: pa.Array) -> Stamps:
        return TimeReader().read(values)


def flat(record: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            found |= flat(value, f"{before}{name}.")
        else:
            found[before + name] = json.dumps(value) if isinstance(value, list) else value
    return found


def found(
    *records: Mapping[str, Any], declared: bool = True, roles: Mapping[str, tuple[str, ...]] | None = None, **asked: str
) -> Roles:
    rows = [flat(record) for record in records]
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: pa.array([row.get(name) for row in rows]) for name in names}
    sample = Fields(columns, np.arange(len(rows)))
    return resolve(FieldSelection(**asked), sample, names, roles or {}, Judge(), declared)  # type: ignore[arg-type]


def refusal(*records: Mapping[str, Any], **asked: Any) -> str:
    with pytest.raises(FormatMismatchError) as caught:
        found(*records, **asked)
    return str(caught.value)


def clients(roles: Roles, values: Sequence[str]) -> Sequence[str]:
    (part,) = roles.key
    assert part.names is not None
    return part.names(values)


# What people have: the client, the time, the status, the endpoint

REQUEST = "GET /a?b HTTP/1.1"
KINDS: dict[str, tuple[dict[str, Any], str, str, str | None, tuple[str, ...]]] = {
    "OpenTelemetry": (
        {
            "timeUnixNano": "1715322324512000000",
            "attributes": {
                "server.address": "10.0.0.1",
                "client.address": CLIENT,
                "http.request.method": "GET",
                "url.path": "/a",
                "http.response.status_code": 200,
                "user_agent.original": "c",
            },
        },
        *("attributes.client.address", "timeUnixNano", "attributes.http.response.status_code"),
        ("attributes.http.request.method", "attributes.url.path"),
    ),
    "OpenTelemetry before 1.20": (
        {"Timestamp": TIME, "http.client_ip": CLIENT, "http.method": "GET", "http.target": "/a", "http.status_code": 200},
        *("http.client_ip", "Timestamp", "http.status_code", ("http.method", "http.target")),
    ),
    "Elastic Common Schema": (
        {
            "@timestamp": TIME,
            "host": {"ip": "10.0.0.1", "name": "h"},
            "event": {"created": TIME},
            "source": {"ip": CLIENT, "geo": {"ip": "1.1.1.1"}},
            "url": {"path": "/a"},
            "http": {"request": {"method": "GET", "bytes": 3}, "response": {"status_code": 200}},
        },
        *("source.ip", "@timestamp", "http.response.status_code", ("http.request.method", "url.path")),
    ),
    "Datadog": (
        {
            "timestamp": 1715322324512,
            "status": "info",
            "host": "i-01",
            "network": {"client": {"ip": CLIENT}},
            "http": {"status_code": 200, "method": "GET", "url": "https://a/x", "url_details": {"path": "/x"}},
        },
        *("network.client.ip", "timestamp", "http.status_code", ("http.method", "http.url_details.path")),
    ),
    "GELF": (
        {"host": "web1", "timestamp": 1715322324.512, "level": 6, "_remote_addr": CLIENT, "_status": 200},
        *("_remote_addr", "timestamp", "_status", ()),
    ),
    "pino": (
        {
            "level": 30,
            "time": 1715322324512,
            "hostname": "web1",
            "res": {"statusCode": 200},
            "responseTime": 12,
            "req": {"method": "GET", "url": "/a", "headers": {"host": "x"}, "remoteAddress": CLIENT, "remotePort": 5},
        },
        *("req.remoteAddress", "time", "res.statusCode", ("req.method", "req.url")),
    ),
    "winston": (
        {
            "level": "info",
            "message": "HTTP GET /a",
            "timestamp": TIME,
            "meta": {
                "req": {"headers": {"host": "x"}, "method": "GET", "originalUrl": "/a", "ip": CLIENT},
                "res": {"statusCode": 200},
            },
        },
        *("meta.req.ip", "timestamp", "meta.res.statusCode", ("meta.req.method", "meta.req.originalUrl")),
    ),
    "morgan": (
        {"method": "GET", "url": "/a", "status": "200", "response-time": "1.2", "remote-addr": CLIENT, "date": TIME},
        *("remote-addr", "date", "status", ("method", "url")),
    ),
    "echo": (
        {"time": TIME, "remote_ip": CLIENT, "host": "h:80", "method": "GET", "uri": "/a", "status": 200, "latency": 1234},
        *("remote_ip", "time", "status", ("method", "uri")),
    ),
    "logback": (
        {"@timestamp": TIME, "requested_url": REQUEST, "status_code": 200, "remote_host": CLIENT, "elapsed_time": 3},
        *("remote_host", "@timestamp", "status_code", ("requested_url",)),
    ),
    "Tomcat": (
        {"host": CLIENT, "user": "-", "time": "[10/May/2024:06:25:24 +0000]", "request": REQUEST, "statusCode": "200"},
        *("host", "time", "statusCode", ("request",)),
    ),
    "lograge": (
        {"method": "GET", "path": "/a", "status": 200, "duration": 3.2, "view": 1.2, "time": TIME, "remote_ip": CLIENT},
        *("remote_ip", "time", "status", ("method", "path")),
    ),
    "Django": (
        {"asctime": "2024-05-10 06:25:24,512", "status_code": 200, "request": {"META": {"REMOTE_ADDR": CLIENT}}},
        *("request.META.REMOTE_ADDR", "asctime", "status_code", ()),
    ),
    "gunicorn's letters": (
        {
            "h": CLIENT,
            "l": "-",
            "u": "-",
            "t": "[10/May/2024:06:25:24 +0000]",
            "r": REQUEST,
            "s": "200",
            "b": "12",
            "D": 1234,
        },
        *("h", "t", "s", ("r",)),
    ),
    "uvicorn": (
        {"time": TIME, "client_addr": f"{CLIENT}:5000", "request_line": REQUEST, "status_code": 200, "levelname": "INFO"},
        *("client_addr", "time", "status_code", ("request_line",)),
    ),
    "CloudTrail": (
        {"userIdentity": {"accountId": "1"}, "eventTime": TIME, "eventName": "GetObject", "sourceIPAddress": CLIENT},
        *("sourceIPAddress", "eventTime", None, ()),
    ),
    "AWS WAF": (
        {"timestamp": 1715322324512, "httpRequest": {"clientIp": CLIENT, "uri": "/a", "httpMethod": "GET"}},
        *("httpRequest.clientIp", "timestamp", None, ("httpRequest.httpMethod", "httpRequest.uri")),
    ),
    "Azure's application gateway": (
        {"timeStamp": TIME, "properties": {"clientIP": CLIENT, "clientPort": "5", "httpStatus": 200, "serverStatus": "500"}},
        *("properties.clientIP", "timeStamp", "properties.httpStatus", ()),
    ),
    "Azure Front Door": (
        {
            "time": TIME,
            "properties": {"clientIp": CLIENT, "socketIp": "1.1.1.1", "originIp": "1.2.3.4", "httpStatusCode": "200"},
        },
        *("properties.clientIp", "time", "properties.httpStatusCode", ()),
    ),
    "Envoy": (
        {
            "start_time": TIME,
            "response_code": 200,
            "duration": 1,
            "downstream_local_address": "10.1.1.1:80",
            "upstream_host": "10.0.0.1:80",
            "x_forwarded_for": CLIENT,
            "method": "GET",
            "path": "/a",
        },
        *("x_forwarded_for", "start_time", "response_code", ("method", "path")),
    ),
    "Akamai": (
        {"reqTimeSec": "1715322324.512", "cliIP": CLIENT, "statusCode": "200", "reqMethod": "GET", "reqPath": "/a"},
        *("cliIP", "reqTimeSec", "statusCode", ("reqMethod", "reqPath")),
    ),
    "Fastly": (
        {"timestamp": TIME, "client_ip": CLIENT, "url": "/a", "request_method": "GET", "response_status": 200},
        *("client_ip", "timestamp", "response_status", ("request_method", "url")),
    ),
    "Vercel": (
        {"timestamp": 1715322324512, "proxy": {"timestamp": 1715322324510, "statusCode": 200, "clientIp": CLIENT}},
        *("proxy.clientIp", "timestamp", "proxy.statusCode", ()),
    ),
    "Kubernetes audit": (
        {
            "requestURI": "/api",
            "verb": "list",
            "sourceIPs": [CLIENT],
            "responseStatus": {"code": 200},
            "requestReceivedTimestamp": TIME,
            "stageTimestamp": TIME,
        },
        *("sourceIPs", "requestReceivedTimestamp", "responseStatus.code", ("verb", "requestURI")),
    ),
    "Traefik": (
        {
            "ClientAddr": f"{CLIENT}:1",
            "ClientHost": CLIENT,
            "DownstreamStatus": 429,
            "OriginStatus": 200,
            "StartUTC": TIME,
            "time": "2024-05-10T06:25:24Z",
            "Duration": 1811271,
        },
        *("ClientHost", "StartUTC", "DownstreamStatus", ()),
    ),
    "Cloudflare": (
        {
            "ClientIP": CLIENT,
            "EdgeStartTimestamp": 1715322324512000000,
            "OriginResponseStatus": 500,
            "EdgeResponseStatus": 200,
        },
        *("ClientIP", "EdgeStartTimestamp", "EdgeResponseStatus", ()),
    ),
    "Google's load balancer": (
        {
            "timestamp": TIME,
            "receiveTimestamp": TIME,
            "httpRequest": {"status": 200, "remoteIp": CLIENT, "latency": "0.018s"},
        },
        *("httpRequest.remoteIp", "timestamp", "httpRequest.status", ()),
    ),
    "API Gateway": (
        {"ip": CLIENT, "user": "-", "requestTime": "10/May/2024:06:25:24 +0000", "status": "200", "resourcePath": "/a"},
        *("ip", "requestTime", "status", ("resourcePath",)),
    ),
    "Application Insights": (
        {"timestamp [UTC]": "5/13/2024, 6:25:24.512 AM", "url": "https://h/a", "resultCode": "200", "client_IP": CLIENT},
        *("client_IP", "timestamp [UTC]", "resultCode", ("url",)),
    ),
    "CloudFront": (
        {
            "date": "2024-05-10",
            "time": "06:25:24",
            "c-ip": CLIENT,
            "cs-method": "GET",
            "cs-uri-stem": "/a",
            "sc-status": "200",
        },
        *("c-ip", "date+time", "sc-status", ("cs-method", "cs-uri-stem")),
    ),
    "Kibana": ({"@timestamp": TIME, "clientip": CLIENT, "response": "200"}, "clientip", "@timestamp", "response", ()),
    "names that nobody knows": ({"zeit": TIME, "wer": CLIENT, "was": "/a"}, "wer", "zeit", None, ()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_fields_of_the_logs_that_people_have(kind: str) -> None:
    record, client, time, status, endpoint = KINDS[kind]
    roles = found(record)
    assert [part.fields for part in roles.key] == [(client,)]
    assert "+".join(roles.time) == time
    assert roles.status == status
    assert roles.endpoint == endpoint
    assert clients(roles, [str(flat(record)[client])]) == [CLIENT]
    said = " ".join(roles.assumed)
    assert f"key: client, field {client} (" in said
    assert f"time: field {time}" in said
    assert (f"status: field {status} (" if status else "status: none found; --status names its field") in said


# Time

LINE = {"ip": CLIENT, "status": 200}


def test_of_several_times_the_finest_is_taken_and_the_others_are_offered() -> None:
    roles = found(LINE | {"@timestamp": "2024-05-10T06:25:24Z", "msec": 1715322324.512})
    assert roles.time == ("msec",)
    assert "time: field msec (seconds since 1970); --time @timestamp would take another" in roles.assumed


def test_a_finer_time_is_taken_whatever_its_name_where_it_agrees() -> None:
    coarse = LINE | {"time_local": "10/May/2024:08:25:24 +0200"}
    roles = found(coarse | {"field_10": "1715322324.512"}, declared=False)
    assert roles.time == ("field_10",)
    assert any(
        "which is finer than time_local and agrees with it; --time time_local would take that" in s for s in roles.assumed
    )
    assert found(coarse | {"field_10": "1715329999.512"}, declared=False).time == ("time_local",)


def test_a_duration_that_is_called_time_is_no_time() -> None:
    rows = [LINE | {"time": seconds, "date": f"2024-05-10T06:25:2{i}Z"} for i, seconds in enumerate((12.5, 0.4, 3.1))]
    assert found(*rows).time == ("date",)
    message = refusal(*({"ip": CLIENT, "time": seconds} for seconds in (12.5, 0.4, 3.1)))
    assert message.startswith("has no field with the time; name one with --time (field 'time' has no time in '12.5'")
    assert message.endswith("its fields are ip, time")


def test_growing_numbers_are_a_clock_only_where_they_are_called_a_time() -> None:
    assert found(*(LINE | {"time": float(i)} for i in range(5))).time == ("time",)
    assert found(*(LINE | {"time": float(i), "date": TIME} for i in range(5))).time == ("date",)
    for name in ("counter", "request_time"):
        assert "has no field with the time" in refusal(*(LINE | {name: float(i)} for i in range(5)))
    assert found(*(LINE | {"request_time": float(i), "zeit": TIME} for i in range(5))).time == ("zeit",)


def test_the_end_of_a_request_is_its_time_only_where_nothing_else_is() -> None:
    end = {"end_time": TIME, "receivedAt": TIME}
    assert found(LINE | end | {"start_time": "2024-05-10T06:25:24Z"}).time == ("start_time",)
    assert found(LINE | end).time == ("end_time",)


def test_several_fields_that_could_be_the_time_are_refused() -> None:
    assert refusal(LINE | {"von": TIME, "bis": TIME}) == (
        "has several fields whose values could be the time; name one with --time von or bis"
    )


def test_a_time_that_was_asked_for_must_hold_times() -> None:
    assert found(LINE | {"von": TIME, "bis": TIME}, time="bis").time == ("bis",)
    assert found(LINE | {"tag": "2024-05-10", "uhr": "06:25:24"}, time="tag+uhr").time == ("tag", "uhr")
    assert refusal(LINE | {"time": "yesterday"}, time="time").startswith("field 'time' has no time in 'yesterday'")
    assert refusal(LINE | {"time": TIME}, time="tiem") == "has no field 'tiem' for the time; did you mean time?"


# Status


def test_a_column_without_status_codes_is_not_the_status() -> None:
    rows = [{"ip": CLIENT, "time": TIME, "status": "ok", "code": 0, "size": 200} for _ in range(2)]
    assert found(*rows).status is None
    assert found(*rows, status="code").status == "code"
    assert refusal(*rows, status="statsu") == "has no field 'statsu' for the status; did you mean status?"


def test_a_status_is_that_of_the_records_with_a_client() -> None:
    up = [{"time": TIME, "status": "UP", "msg": "x"}] * 9
    roles = found(*up, {"time": TIME, "ip": CLIENT, "path": "/a", "status": "200", "msg": "y"})
    assert roles.status == "status"
    assert roles.needs == ("ip", "path")


def test_status_codes_are_read_from_text_and_numbers() -> None:
    assert status_codes(pa.array(["200 OK", " 429", "503.0", "[204]", "-", "", None, "9999", "2OO", "20.5"])).tolist() == (
        [200, 429, 503, 204, 0, 0, 0, 0, 0, 0]
    )
    assert status_codes(pa.array([200, None, 99, 1000])).tolist() == [200, 0, 0, 0]
    assert status_codes(pa.array([200.0, 200.5, None])).tolist() == [200, 0, 0]


# Client and key


def test_without_a_client_the_log_is_refused_and_the_remedies_named() -> None:
    assert refusal({"TIMESTAMP": TIME, "ContextTokens": 5, "GeneratedTokens": 1}) == (
        "has no field that can be the client; name the key with --key FIELD, or take one limit for all with --key none; its "
        "fields are TIMESTAMP, ContextTokens, GeneratedTokens"
    )
    tenants = [{"ts": TIME, "tenant": name} for name in ("acme", "b")]
    assert "name the key with --key tenant, or" in refusal(*tenants)
    assert "has several fields with addresses; name the key with --key a1 or a2, or" in refusal(
        {"ts": TIME, "a1": CLIENT, "a2": "198.51.100.9"}
    )
    assert "has no field that can be the client" in refusal(*tenants, key="client/24")
    assert found(*tenants, key="none").key == ()
    assert found(*tenants, key="tenant").key[0].fields == ("tenant",)


def test_other_fields_that_could_be_the_key_are_offered() -> None:
    rows = [LINE | {"time": TIME, "user_id": i, "tenant": f"t{i}", "app": "one"} for i in range(3)]
    (said,) = (text for text in found(*rows).assumed if text.startswith("key:"))
    assert said == (
        "key: client, field ip (an address in 100 % of its values in the first 3 records); --key tenant or user_id would "
        "limit by that"
    )


def test_a_name_that_says_so_is_the_client_also_with_names_of_hosts() -> None:
    roles = found({"time": TIME, "remote_host": "ip-1.example.org"})
    assert roles.key[0].fields == ("remote_host",)
    assert "key: client, field remote_host (by its name; its values are no addresses)" in roles.assumed
    assert "ip-1" not in " ".join(roles.assumed)


@pytest.mark.parametrize("name", ["host", "source", "src", "user", "from", "remote"])
def test_a_name_that_says_little_is_the_client_only_with_addresses(name: str) -> None:
    assert found({"time": TIME, name: CLIENT}).key[0].fields == (name,)
    assert "no field that can be the client" in refusal({"time": TIME, name: "web1"})


def test_another_machine_s_address_is_not_the_client() -> None:
    record = {
        "time": TIME,
        "upstream_addr": "10.0.0.1:80",
        "server": {"ip": "10.0.0.2"},
        "s-ip": "10.0.0.3",
        "local_ip": "1.1.1.1",
    }
    assert "no field that can be the client" in refusal(record)


PROXIED = [{"time": TIME, "remote_addr": "10.0.0.5", "http_x_forwarded_for": f"{CLIENT}, 10.0.0.5"}] * 3


def test_behind_a_proxy_a_declared_client_stays_and_x_forwarded_for_is_offered() -> None:
    roles = found(*PROXIED)
    assert roles.key[0].fields == ("remote_addr",)
    assert roles.assumed[0] == (
        "key: client, field remote_addr (by its name, although it has private addresses only (1 different); --key xff would "
        "limit by http_x_forwarded_for)"
    )


@pytest.mark.parametrize("name", ["x_forward_for", "edge_client"])
def test_behind_a_proxy_any_other_field_with_addresses_from_outside_is_offered(name: str) -> None:
    (said,) = (text for text in found({"time": TIME, "remote_addr": "10.0.0.5", name: CLIENT}).assumed if "key:" in text)
    assert "private addresses only" in said
    assert said.endswith(f"would limit by {name})")


@pytest.mark.parametrize("name", ["requests", "COUNT(*)", "num_model_requests", "hits"])
def test_records_that_may_stand_for_several_requests_are_said(name: str) -> None:
    row = {"time": TIME, "ip": CLIENT}
    (said,) = (text for text in found(row | {name: 1}, row | {name: 12}).assumed if text.startswith("requests:"))
    assert said.startswith(
        f"requests: one for each record, though {name} may tell that it stands for several; --cost {name}"
    )
    for other in (found(row | {name: 1}), found(row | {name: "a"}), found(row | {name: 12}, cost="1")):
        assert not any(text.startswith("requests:") for text in other.assumed)


@pytest.mark.parametrize("declared", [True, False])
def test_a_client_that_is_always_private_is_said_even_where_there_is_no_other(declared: bool) -> None:
    inner = {"time": TIME, "remote_addr": "10.0.0.5", "other": "10.0.0.6" if declared else "x"}
    (said,) = (text for text in found(inner, declared=declared).assumed if text.startswith("key:"))
    assert said.endswith("; all are private, 1 different, and may be a proxy's)")
    assert "private" not in " ".join(found({"time": TIME, "remote_addr": CLIENT}, declared=declared).assumed)


def test_a_proxy_with_a_public_address_is_told_by_how_many_stand_behind_it() -> None:
    rows = [{"time": TIME, "remote_addr": CLIENT, "http_x_forwarded_for": f"198.51.100.{i}, 10.0.0.5"} for i in range(3)]
    (said,) = (text for text in found(*rows, declared=False).assumed if text.startswith("key:"))
    assert said.endswith("; --key xff would limit by http_x_forwarded_for, 3 different in place of 1)")


@pytest.mark.parametrize("name", ["http_x_forwarded_for", "field_9"])
def test_behind_a_proxy_the_client_of_columns_without_names_is_the_first_of_the_list(name: str) -> None:
    direct = {"time": TIME, "remote_addr": "198.51.100.9", name: "-"}
    proxied = {"time": TIME, "remote_addr": "10.0.0.5", name: f"{CLIENT}, 10.0.0.5"}
    for rows, share in (((proxied, proxied), "100 %"), ((proxied, direct), "50 %")):
        for asked in ({}, {"key": "client"}):
            roles = found(*rows, declared=False, **asked)
            assert roles.key[0].fields == roles.session[0].fields == ("remote_addr", name)
            values = [
                " ".join((row["remote_addr"], row[name]))
                for row in (proxied, direct, {"remote_addr": "10.0.0.5", name: "-"})
            ]
            assert clients(roles, values) == [CLIENT, "198.51.100.9", "10.0.0.5"]
            assert f"or the first of {name} where that is private, as it is in {share} of its values" in roles.assumed[0]
            assert "; --key remote_addr would limit by that alone" in roles.assumed[0]
        assert found(*rows, declared=False, key="remote_addr").key[0].fields == ("remote_addr",)
    assert found(direct, direct, declared=False).key[0].fields == ("remote_addr",)
    assert found(proxied, declared=False, roles={"client": ("remote_addr",)}).key[0].fields == ("remote_addr",)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        *(("xff", CLIENT), ("xff:last", "10.0.0.5"), ("xff:-2", CLIENT), ("xff/16", "203.0.0.0/16")),
        *(("X-Forwarded-For:2", "10.0.0.5"), ("http_x_forwarded_for:last/8", "10.0.0.0/8")),
    ],
)
def test_an_entry_of_x_forwarded_for_is_the_key(key: str, expected: str) -> None:
    roles = found(*PROXIED, key=key)
    assert roles.key[0].fields == ("http_x_forwarded_for",)
    assert clients(roles, [f"{CLIENT}:33453, 10.0.0.5"]) == [expected]


def test_without_x_forwarded_for_it_cannot_be_the_key() -> None:
    assert refusal(LINE | {"time": TIME}, key="xff:last") == (
        "has no X-Forwarded-For for the key 'xff:last'; its fields are ip, status, time"
    )


def test_a_field_of_just_that_name_goes_before_a_role() -> None:
    record = LINE | {"time": TIME, "client": "acme", "user": "-"}
    assert found(record, key="client").key[0].fields == ("client",)
    assert found(record).key[0].fields == ("ip",)
    assert found(record, key="IP").key[0].fields == ("ip",)


COMBINED = {
    "remote_addr": CLIENT,
    "remote_user": "-",
    "time_local": "10/May/2024:06:25:24 +0000",
    "request": REQUEST,
    "status": "200",
    "body_bytes_sent": "12",
    "http_referer": "-",
    "http_user_agent": "c",
}


@pytest.mark.parametrize(
    ("key", "fields", "names"),
    [
        ("client", ["remote_addr"], [CLIENT]),
        ("user", ["remote_user"], ["-"]),
        ("endpoint", ["request"], ["/a"]),
        ("path", ["request"], ["/a"]),
        ("method", ["request"], ["GET"]),
        ("status", ["status"], ["200"]),
        ("agent", ["http_user_agent"], ["c"]),
        ("referrer", ["http_referer"], ["-"]),
        ("client/24+endpoint", ["remote_addr", "request"], ["203.0.113.0/24", "/a"]),
        ("body_bytes_sent", ["body_bytes_sent"], ["12"]),
    ],
)
def test_roles_as_keys(key: str, fields: list[str], names: list[str]) -> None:
    roles = found(COMBINED, key=key)
    assert [part.fields for part in roles.key] == [(field,) for field in fields]
    values = [[COMBINED[part.fields[0]]] for part in roles.key]
    assert [part.names(value)[0] if part.names else value[0] for part, value in zip(roles.key, values, strict=True)] == names


def test_a_session_is_what_was_asked_for_or_has_its_name_or_is_client_and_agent() -> None:
    assert [part.fields for part in found(COMBINED).session] == [("remote_addr",), ("http_user_agent",)]
    assert [part.fields for part in found(COMBINED | {"session_id": "s"}).session] == [("session_id",)]
    assert [part.fields for part in found(COMBINED, session="user+client").session] == [("remote_user",), ("remote_addr",)]
    assert found({"time": TIME, "tenant": "a"}, key="tenant").session == ()
    assert found(COMBINED, key="session").key[0].fields == ("remote_addr", "http_user_agent")


def test_a_port_is_cut_where_all_addresses_have_one() -> None:
    rows = [{"time": TIME, "client": f"2001:db8::1:{port}"} for port in (50718, 8080)]
    assert clients(found(*rows), ["2001:db8::1:50718", "2001:db8::1:8080"]) == ["2001:db8::1", "2001:db8::1"]


# Endpoint, cost


def test_the_endpoint_is_the_field_that_was_asked_for() -> None:
    roles = found(COMBINED | {"route": "users"}, endpoint="route")
    assert (roles.endpoint, roles.endpoint_name) == ((), "route")
    assert "did you mean client?" in refusal(COMBINED, key="clint")
    assert "did you mean route?" in refusal(COMBINED | {"route": "users"}, endpoint="rout")


def test_a_name_alone_makes_no_endpoint() -> None:
    assert found(LINE | {"time": TIME, "target": "blue", "request": "42"}).endpoint == ()


def test_paths_lose_scheme_host_and_query() -> None:
    urls = ["/a/b?c#d", "https://h:443/a", "http://[::1]:80/", "https://h", "users", "/a#b?c", "?", "/a?u=http://h/b"]
    assert paths_of_urls(urls) == ["/a/b", "/a", "/", "/", "users", "/a", "-", "/a"]


def test_the_cost_is_a_field_or_arithmetic_and_size_is_the_bytes_of_the_answer() -> None:
    cost = found(COMBINED, cost="size * 2 + 1").cost
    assert cost is not None
    assert cost.names == ("body_bytes_sent",)
    assert cost({"body_bytes_sent": np.array([5.0])}, 1).tolist() == [11.0]
    assert found(COMBINED, cost="size").zero == ("body_bytes_sent",)
    odd = found(LINE | {"time": TIME, "a-b": 1}, cost="a-b").cost
    assert odd is not None
    assert odd.names == ("a-b",)
    assert "has no field 'sise' for the cost" in refusal(COMBINED, cost="sise")


# Records that are no requests

CADDY = [
    {"ts": 1715322300.5, "logger": "admin", "msg": "admin endpoint started"},
    {"ts": 1715322301.5, "request": {"client_ip": CLIENT, "method": "GET", "uri": "/i"}, "size": 0, "status": 304},
    {"ts": 1715322302.5, "logger": "http.log.error", "request": {"client_ip": CLIENT, "method": "GET", "uri": "/j"}},
    {"ts": 1715322302.5, "request": {"client_ip": CLIENT, "method": "GET", "uri": "/j"}, "size": 0, "status": 502},
]


@pytest.mark.parametrize("asked", [{}, {"key": "request.client_ip"}, {"key": "client", "status": "status"}])
def test_a_request_among_other_records_has_a_status_or_a_size(asked: dict[str, str]) -> None:
    roles = found(*CADDY, **asked)
    assert roles.needs == ("status", "size")
    said = "requests: those with a status; 1 of the first 4 records have a client and none of it, and do not count"
    assert said in roles.assumed


def test_where_few_requests_have_a_status_a_client_or_a_path_makes_one() -> None:
    rows = [{"time": TIME, "ip": CLIENT, "path": "/a", "status": 500 if i == 0 else None} for i in range(5)]
    assert found(*rows).needs == ("ip", "path")
    assert found(*({"time": TIME, "ip": ip} for ip in (CLIENT, None))).needs == ("ip",)
    assert found(*({"time": TIME, "n": i} for i in range(2)), key="n").needs == ()


def test_every_row_of_a_table_is_a_request() -> None:
    assert found(COMBINED).needs == ()


def test_what_the_format_says_goes_before_the_usual_names() -> None:
    record = {"time": TIME, "ip": CLIENT, "peer": "198.51.100.9", "x": "429", "status": "200"}
    roles = found(record, roles={"client": ("gone", "peer"), "status": ("x",)})
    assert (roles.key[0].fields, roles.status) == (("peer",), "x")


def test_all_fields_that_are_needed_are_cut() -> None:
    roles = found(*CADDY, cost="size")
    assert set(roles.needed) == {"ts", "request.client_ip", "request.method", "request.uri", "status", "size"}


def test_names_and_values_of_a_log_are_shown_escaped() -> None:
    assert "\x1b" not in refusal({"\x1b[31m": "a", "time": TIME})
    odd = [LINE | {"time": TIME, "\x1bdate": TIME, "\x1buser": name} for name in "ab"]
    assert "\x1b" not in " ".join(found({"time": TIME, "\x1b": CLIENT}).assumed) + " ".join(found(*odd).assumed)


def test_a_field_that_only_one_of_many_records_has_can_be_asked_for(tmp_path: Path) -> None:
    record = LINE | {"time": TIME}
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(record | ({"user": {"id": "a"}} if i == 3333 else {})) + "\n" for i in range(5000)))
    trace = read_log(path, key="user.id")
    assert dict(zip(trace.keys, np.bincount(trace.key).tolist(), strict=True)) == {"-": 4999, "a": 1}
    with pytest.raises(LogError, match=r"has no field 'user\.name' for the key; its fields are ip, status, time"):
        read_log(path, key="user.name")


@pytest.mark.parametrize(
    ("columns", "endpoint"),
    [
        ("request", "GET /a?b HTTP/1.1|GET /a"),
        ("request", "GET https://h:443/a/b HTTP/2.0|GET /a"),
        ("method,path", "get,/a/b|get /a"),
        ("path", "/a/b?c|/a"),
        ("URL", "https://h/a/b|/a"),
        ("request", "-|-"),
    ],
)
def test_endpoints_of_a_csv(tmp_path: Path, columns: str, endpoint: str) -> None:
    values, name = endpoint.split("|")
    path = tmp_path / "log.csv"
    path.write_text(f"time,ip,{columns}\n{TIME},{CLIENT},{values}\n")
    assert read_log(path).endpoints == (name,)


def test_an_endpoint_that_was_asked_for_is_whole_but_for_the_query(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"time,ip,route\n{TIME},{CLIENT},/users/:id/orders?x=1\n{TIME},{CLIENT},users#show\n")
    assert read_log(path, endpoint="route").endpoints == ("/users/:id/orders", "users#show")


USUAL = [
    "time",
    "ts",
    "date",
    "ip",
    "remote_addr",
    "http_x_forwarded_for",
    "user",
    "request",
    "path",
    "status",
    "agent",
    "size",
]
WORDS = st.one_of(
    st.sampled_from(USUAL),
    st.sampled_from(sorted({name for usual in ROLES.values() for name in usual})),
    st.sampled_from(["x", "request.id", "upstream.status", "a+b", "\x1b[0m", ""]),
)
VALUES = st.one_of(
    st.none(),
    st.sampled_from(
        [CLIENT, "10.0.0.5", f"{CLIENT}, 10.0.0.5", "2001:db8::1:8080", "200", "-", "", TIME, REQUEST, "/a?b", "x" * 99]
    ),
    st.text(max_size=20),
)
COLUMNS = st.one_of(
    st.lists(VALUES, min_size=3, max_size=3),
    st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=3, max_size=3),
    st.lists(st.one_of(st.none(), st.floats()), min_size=3, max_size=3),
)
KEYS = st.one_of(st.none(), st.sampled_from(["client", "client/24", "xff:-2", "user+endpoint", "session", "none", "path"]))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(WORDS, COLUMNS, max_size=8), KEYS, st.booleans())
def test_every_log_has_roles_or_a_refusal_in_one_line(values: dict[str, list[Any]], key: str | None, declared: bool) -> None:
    columns = {name: pa.array(column, pa.string() if set(column) == {None} else None) for name, column in values.items()}
    sample = Fields(columns, np.arange(3))
    try:
        roles = resolve(FieldSelection(key), sample, list(columns), {}, Judge(), declared)
    except FormatMismatchError as error:
        refused = str(error)
        assert refused.isprintable()
        return
    assert set(roles.needed) <= set(columns)
    assert " ".join(roles.assumed).isprintable()
    for part in (*roles.key, *roles.session):
        texts = [
            " ".join("-" if v is None else str(v) for v in row)
            for row in zip(*(values[f] for f in part.fields), strict=True)
        ]
        assert part.names is None or len(part.names(texts)) == 3


@pytest.mark.parametrize(
    "record",
    [
        {"headers": {"client-ip": "1.2.3.4", "status": "200"}},
        {"request": {"body": {"status": 200, "ip": "1.2.3.4"}}},
        {"cookies": {"status": "200", "remote_addr": "1.2.3.4"}},
    ],
)
def test_what_a_client_sends_is_no_client_and_no_status(record: dict[str, object], tmp_path: Path) -> None:
    rows = [{"time": 1715322324 + i, **record, "remote_addr": "203.0.113.7", "status_code": 429} for i in range(5)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    trace = read_log(path)
    assert trace.keys == ("203.0.113.7",)
    assert trace.status is not None
    assert trace.status.tolist() == [429] * 5


def test_of_two_objects_the_request_names_the_client(tmp_path: Path) -> None:
    job, request = {"job": {"ip": "1.2.3.4"}}, {"req": {"ip": "203.0.113.7"}, "res": {"statusCode": 429}}
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f"{json.dumps({'time': 1715322324 + i, **(request if i % 2 else job)})}\n" for i in range(6)))
    trace = read_log(path)
    assert (trace.keys, len(trace), trace.provenance.ignored) == (("203.0.113.7",), 3, 3)
