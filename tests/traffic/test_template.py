"""A form is read as it stands in a server's configuration."""

from __future__ import annotations

import pytest

from traffic.formats.base import Block, FormatMismatchError
from traffic.formats.template import Template

COMMON = '$remote_addr $remote_logname $remote_user [$time_local] "$request" $status $body_bytes_sent'
COMBINED = f'{COMMON} "$http_referer" "$http_user_agent"'
PIECES = '"$request_method $request_uri $server_protocol"'
NGINX = '$remote_addr - $remote_user [$time_local] "$request" $status'


@pytest.mark.parametrize(
    ("pasted", "form"),
    [
        (f"log_format main '{NGINX}';", NGINX),
        (
            "log_format  main  escape=json '$remote_addr - $remote_user [$time_local] '\n  # a comment; with a 'quote'\n"
            "   '\"$request\" $status';\n\naccess_log logs/access.log main;",
            NGINX,
        ),
        ("'$remote_addr - $remote_user [$time_local] '\n    '\"$request\" $status';", NGINX),
        ("main '$remote_addr - $remote_user [$time_local] ' '\"$request\" $status'", NGINX),
        (r'"$remote_addr - $remote_user [$time_local] \"$request\" $status"', NGINX),
        (NGINX, NGINX),
        (f"{NGINX};\n", NGINX),
        (f"log-format-upstream: '{NGINX}'", NGINX),
        (f"log-format-upstream: {NGINX}", NGINX),
        ('"$time_local" "$status"', '"$time_local" "$status"'),
        ("${remote_addr}x$status", "${remote_addr}x$status"),
        (r"$remote_addr\t$status\n", r"$remote_addr\t$status"),
        ("$scheme://$host$request_uri $status", "$scheme://$host$request_uri $status"),
        ("$host $uri$is_args$args $status", "$host $request_uri $status"),
        ("$a 100% $$ $status", r"$a 100% \$\$ $status"),
        ("$upstream_status $upstream_status", "$upstream_status $upstream_status_2"),
    ],
)
def test_nginx(pasted: str, form: str) -> None:
    assert str(Template.parse(pasted)) == form


@pytest.mark.parametrize(
    ("pasted", "form"),
    [
        (r'LogFormat "%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\"" combined', COMBINED),
        (r"LogFormat '%h %l %u %t \"%r\" %>s %b' common", COMMON),
        (r'CustomLog "logs/access log" "%h %l %u %t \"%r\" %>s %b" env=!dontlog', COMMON),
        ("CustomLog ${APACHE_LOG_DIR}/access.log combined", COMBINED),
        ('LogFormat "%h %l %u \\\n   %t \\"%r\\" %>s %b" common', COMMON.replace("user ", "user  ")),
        (r"%h %l %u %t \"%r\" %>s %b", COMMON),
        ('%h %l %u %t "%r" %>s %b', COMMON),
        ("%v:%p %a %{c}a %t", "$server_name:$server_port $remote_addr $realip_remote_addr [$time_local]"),
        ("%h %a %s %>s", "$remote_host $remote_addr $status_original $status"),
        ("%a %h %<s", "$remote_addr $remote_host $status"),
        ("%!200,304,302{Referer}i %400,501{User-agent}i", "$http_referer $http_user_agent"),
        ("%{X-Forwarded-For}i %{Set-Cookie}o", "$http_x_forwarded_for $sent_http_set_cookie"),
        ("%{sid}C %{VAR}e", "$cookie_sid $env_var"),
        ("[%{%d/%b/%Y:%H:%M:%S}t.%{msec_frac}t %{%z}t] %D", "[$time_local] $request_time_us"),
        ("%{begin:%Y-%m-%dT%H:%M:%S}t.%{end:usec_frac}t|%{sec}t|%{msec}t", "$time|$time_sec|$time_msec"),
        ("%{%s}t.%{usec_frac}t %{ms}T %{us}T %T", "$msec $request_time_ms $request_time_us $request_time"),
        ('"%m %U%q %H" %I %O %X %L %k %P', '"$request_method $request_uri $server_protocol" $request_length $bytes_sent '
         "$connection_status $request_log_id $connection_requests $pid"),
        (r"%h\t100%%\t%V", r"$remote_addr\t100%\t$host"),
        ("%{Foo}^ti %{x}n %{SSL_PROTOCOL}x", "$trailer_foo $note_x $ssl_ssl_protocol"),
    ],
)  # fmt: skip
def test_apache(pasted: str, form: str) -> None:
    assert str(Template.parse(pasted)) == form


@pytest.mark.parametrize(
    ("pasted", "form"),
    [
        (
            '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
            '%BYTES_RECEIVED% %DURATION% "%REQ(X-FORWARDED-FOR)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\\n',
            '[$start_time] "$request_method $request_uri $server_protocol" $status '
            '$response_flags $bytes_received $duration_ms "$http_x_forwarded_for" "$host" "$upstream_addr"',
        ),
        (
            "%START_TIME(%Y/%m/%dT%H:%M:%S%z %s)% %REQ(USER-AGENT):20% %RESP(X-A?X-B)% %DYNAMIC_METADATA(a.b:c)% 5%%",
            "$start_time $http_user_agent $sent_http_x_b $dynamic_metadata_a_b_c 5%",
        ),
        (
            r'log-format "%ci:%cp [%tr] %ft %b/%s %TR/%Ta %ST %B %tsc %{+Q}r"',
            "$remote_addr:$remote_port [$time_local] $frontend $backend/$server $time_request_ms/$time_active_ms $status "
            '$bytes_sent $termination_state "$request"',
        ),
        (r"%ci\ %[req.hdr(x-a)]\ %ST %HM", "$remote_addr $req_hdr_x_a_ $status $request_method"),
    ],
)
def test_envoy_and_haproxy(pasted: str, form: str) -> None:
    assert str(Template.parse(pasted)) == form


@pytest.mark.parametrize(
    ("pasted", "form"),
    [
        (
            """access_log_format = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(D)s'""",
            f"{COMBINED} $request_time_us",
        ),
        ("%({x-forwarded-for}i)s %(p)s", "$http_x_forwarded_for $pid"),
        (
            '%(addr) - %(user) [%(ltime)] "%(method) %(uri) %(proto)" %(status) %(size) %(msecs)',
            f"$remote_addr - $remote_user [$time_local] {PIECES} $status $body_bytes_sent $request_time_ms",
        ),
        (
            ':remote-addr - :remote-user [:date[clf]] ":method :url HTTP/:http-version" :status :res[content-length]',
            f"$remote_addr - $remote_user [$time_local] {PIECES} $status $body_bytes_sent",
        ),
        (":method :url :response-time ms - :req[x-a]", "$request_method $request_uri $request_time_ms ms - $http_x_a"),
        (
            "logformat squid %ts.%03tu %6tr %>a %Ss/%03>Hs %<st %rm %ru %[un %Sh/%<a %{X-A}>h",
            "$msec   $elapsed $remote_addr $cache_result/$status $bytes_sent $request_method $request_uri $remote_user "
            "$hierarchy/$upstream_addr $http_x_a",
        ),
        ('pattern="%h %l %u %t &quot;%r&quot; %s %b %D %I %{sid}c"', f"{COMMON} $request_time_us $note_thread $note_sid"),
        (r'accesslog.format = "%h %V %u %t \"%r\" %>s %b"', COMMON.replace("$remote_logname", "$host")),
    ],
)
def test_application_servers_and_squid(pasted: str, form: str) -> None:
    assert str(Template.parse(pasted)) == form


@pytest.mark.parametrize(
    "pasted",
    [
        COMBINED,
        "${a}b$c",
        r"$a\t\$b|$c%h",
        "$scheme://$host$request_uri $status",
        "\"$a\" '$b'",
        r"\'$a\';$b\;",
        r"$a\\$b",
    ],
)
def test_a_written_template_is_read_as_the_same(pasted: str) -> None:
    template = Template.parse(pasted)
    assert Template.parse(str(template)) == template


@pytest.mark.parametrize(
    ("pasted", "message"),
    [
        ("$remote_addr$status", r"has \$remote_addr and \$status side by side"),
        ("%h%u", r"has \$remote_addr and \$remote_user side by side"),
        ("nothing", r"has no variable"),
        ("", r"has no variable"),
        ("%h %j", "has a directive that Apache has not at character 4: %j"),
        ("%h %{x}h", "has a directive that Apache has not at character 4: %{x}h"),
        ("%h %", "has no directive of Apache at character 4: %"),
        ("log_format a '$b' '$c", "has no closed quote at character 5: '\\$c"),
        ("LogFormat", "has no variable"),
        ('log_format j escape=json \'{"time":"$time_iso8601"}\';', "makes JSON; leave --log-format out, it is JSON lines"),
        ("$a" * 1 + " $b" * 200, "has more than 200 parts"),
        ("$a" + " " * 16_000, "has 16002 characters; at most 16000 are read"),
    ],
)
def test_what_is_no_form_is_said_in_one_line(pasted: str, message: str) -> None:
    with pytest.raises(FormatMismatchError, match=message) as error:
        Template.parse(pasted)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("form", "line", "message"),
    [
        (NGINX, '203.0.113.7 - - [t] "GET / HTTP/1.1" x', "behind $request it has 'x', where the form has $status"),
        (
            NGINX,
            '203.0.113.7 - - "GET"',
            "behind $remote_addr it has '- \"GET\"', where the form has $remote_user and then ' ['",
        ),
        ("[$status]", "200", "at its beginning it has '200', where the form has '['"),
        ("$scheme$uri|$status", "/a 200", "behind $scheme it has '/a 200', where the form has $uri and then '|'"),
        ("$status", "200x", "behind $status it goes on with 'x'"),
        ("$a|$status", "é" * 50, f"at its beginning it has '{'é' * 20}', where the form has $a and then '|'"),
    ],
)
def test_a_line_that_does_not_fit_leaves_the_form_somewhere(form: str, line: str, message: str) -> None:
    assert Template.parse(form).misfit(line) == message


@pytest.mark.parametrize(
    ("form", "line", "values"),
    [
        (
            NGINX, '203.0.113.7, 10.1.1.1 - john smith [t] "GET \\"x\\" /" 200',
            ["203.0.113.7, 10.1.1.1", "john smith", "t", 'GET \\"x\\" /', "200"],
        ),
        (NGINX, '- - "car 5941" [t] "" 000', ["-", "car 5941", "t", "", "000"]),
        (NGINX, '2001:db8::1 - - [t] "\\x16\\x03" 400', ["2001:db8::1", "-", "t", "\\x16\\x03", "400"]),
        (NGINX, '203.0.113.7 - - [t] "GET / HTTP/1.1 200', None),
        (NGINX, '203.0.113.7 - - [t] "GET / HTTP/1.1" 20', None),
        (NGINX, 'www.example.org 203.0.113.7 - - [t] "GET / HTTP/1.1" 200', None),
        ("$request_time $upstream_response_time $status", "0.3 0.1, 0.2 : 0.3 200", ["0.3", "0.1, 0.2 : 0.3", "200"]),
        ("$time_local $remote_addr", "12/Mar/2024:09:44:22 +0800 ::1", ["12/Mar/2024:09:44:22 +0800", "::1"]),
        ("$remote_addr:$remote_port [$status]", "2001:db8::1:33317 [200]", ["2001:db8::1", "33317", "200"]),
        ("$remote_addr:$remote_port|$status", "[::1]:80|200", ["[::1]", "80", "200"]),
        ("$remote_addr:$remote_port|$status", "2001:DB8::AF:80|200", ["2001:DB8::AF", "80", "200"]),
        ("$remote_addr:$remote_port|$status", "a.Face:80|200", ["a.Face", "80", "200"]),
        ("$request $status", "GET /a HTTP/1.1 200", ["GET /a HTTP/1.1", "200"]),
        ("$scheme://$host$request_uri $status", "https://a.b/c?d 200", ["https", "a.b", "/c?d", "200"]),
        ("$msec     $elapsed $status", "1286536309.450      180 200", ["1286536309.450", "180", "200"]),
        ("$status $http_user_agent", "200 Mozilla/5.0 (X11)", ["200", "Mozilla/5.0 (X11)"]),
    ],
)  # fmt: skip
def test_a_field_ends_where_the_next_text_begins(form: str, line: str, values: list[str] | None) -> None:
    template = Template.parse(form)
    fields = template.splitter().split(Block(f"{line}\n".encode()), template.names)
    if values is None:
        assert fields.skipped == [line]
    else:
        assert [column.to_pylist() for column in fields.columns.values()] == [[value] for value in values]
