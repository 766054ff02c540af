"""The languages in which servers are told how to write a line: nginx's, Apache's, Envoy's and HAProxy's.

Sources: https://nginx.org/en/docs/http/ngx_http_log_module.html, https://httpd.apache.org/docs/2.4/mod/mod_log_config.html,
https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage,
https://docs.haproxy.org/2.8/configuration.html#8.2.6. The names of nginx are used for all.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from traffic.formats.base import FormatMismatchError
from traffic.formats.template_parts import Part, Variable, header_name
from traffic.formats.template_placeholders import placeholders
from traffic.provenance import printable

NAMED = {
    "combined": r'%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"',
    "common": r'%h %l %u %t "%r" %>s %b',
    "vhost_combined": r'%v:%p %h %l %u %t "%r" %>s %O "%{Referer}i" "%{User-Agent}i"',
    "main": '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
    '"$http_referer" "$http_user_agent" "$http_x_forwarded_for"',
}
"""Names that stand for a form where no configuration is given: Apache's, and `main` of nginx's own example."""

_BEGINNING = re.compile(
    r"\s*+(?:(?P<nginx>log_format)\s++(?P<name>\S++)\s++|(?P<apache>LogFormat(?=\s++[\"'])|CustomLog|GlobalLog)\s++"
    r"|(?P<haproxy>log-format)\s++|logformat\s++\S++\s++(?=[%\[])|(?P<tomcat>pattern)\s*+=\s*+(?=[\"'])"
    r"|varnishncsa\b[^'\"%]*+(?=[\"'])"
    r"|(?:log-format-upstream|accesslog\.format|access_?log_?format|log-format|inline_string|text_format|format(?=\s*+:))"
    r"\s*+[:=]\s*+(?:[|>][+-]?+\s++)?+)",
    re.IGNORECASE,
)
_ENVOY = re.compile(r"%([A-Z][A-Z_0-9]{2,}+)(?:\(([^()]*+)\))?+(?::(\d++))?+%")
_HAPROXY = re.compile(
    r"%(?:\{[^}]*+\})?+(?:\[[^]]*+\]|(?:ci|cp|ST|ft|si|sp|bi|bp|tr|trg|trl|Tq|TR|Tw|Tc|Ta|hr|hs|HM|HU|HV|tsc)\b)"
)


def parts(text: str) -> list[Part]:
    """Cut a pasted line into text and variables.

    Raises
    ------
    FormatMismatchError
        If it is no format, is JSON, or has a directive that there is not.
    """
    stripped = text.strip()
    if stripped in NAMED:
        stripped = NAMED[stripped]
    found = _BEGINNING.match(stripped)
    body = stripped[found.end() :] if found else stripped
    if found and found["apache"]:
        return list(_apache(_apache_argument(body, found["apache"].lower() == "customlog")))
    body = _of_tomcat(body) if found and found["tomcat"] else _unquoted(body, found is not None)
    if re.match(r'\s*+\{\s*+"', body) and body.rstrip().endswith("}"):
        raise FormatMismatchError("the log format makes JSON; leave --log-format out, it is JSON lines")
    if re.search(r"(?<!\\)(?:\\\\)*+\$(?:\w|\{\w)", body):
        return list(_nginx(body))
    if (found_parts := placeholders(body)) is not None:
        return found_parts
    if _ENVOY.search(body):
        return list(_envoy(body))
    if (found and found["haproxy"]) or _HAPROXY.search(body):
        return list(_haproxy(body))
    return list(_apache(body))


def _of_tomcat(text: str) -> str:
    """Write a pattern of Tomcat as Apache would, which has other fields for some letters."""
    text = html.unescape(text[1:].partition(text[0])[0])
    text = re.sub(r"%\{([^}]*+)\}[crs]", r"%{\1}n", text)
    return re.sub(r"%([IFS])", lambda found: {"I": "%{thread}n", "F": "%{commit_ms}n", "S": "%{session}n"}[found[1]], text)


def _unquoted(text: str, is_directive: bool) -> str:
    """Join the quoted strings of a directive; text that is not in quotes stays as it is."""
    text = re.sub(r"\A\(\s*+(?=['\"])|(?<=['\"]),?\s*+\)\Z", "", text.strip())  # strings of Python
    name = re.match(r"\w++\s++(?=')", text)  # "main '...' '...';"
    if name and not is_directive:
        text = text[name.end() :]
    text = re.sub(r"\Aescape=(?:default|json|none)\s++", "", text)
    whole = text.startswith("'") or (text.startswith('"') and (is_directive or r"\"" in text))
    if not whole:
        return _unescaped(re.sub(r"\s*+;\Z", "", text))
    strings = []
    place = 0
    piece = re.compile(r"\s*+(?:#[^\n]*+\n\s*+)*+(?:'((?:[^'\\]|\\.)*+)'|\"((?:[^\"\\]|\\.)*+)\"|;|\\\n)", re.DOTALL)
    while place < len(text):
        found = piece.match(text, place)
        if not found:
            rest = printable(text[place : place + 20].strip())
            if not rest:
                break
            raise FormatMismatchError(f"the log format has no closed quote at character {place + 1}: {rest}")
        strings.append(_unescaped(found[1] or found[2] or ""))
        place = found.end()
        if found[0].rstrip().endswith(";") and found[1] is None and found[2] is None:
            break
    return "".join(strings)


_ESCAPES = {"t": "\t", "n": "\n", "r": "\r"}


def _unescaped(text: str) -> str:
    text = re.sub(r"[ \t]*+\\?+\r?\n\s*+", " ", text)  # a log's line is one
    return re.sub(r"\\([tnr\"';])", lambda found: _ESCAPES.get(found[1], found[1]), text)


def _nginx(text: str) -> Iterator[Part]:
    place = 0
    for found in re.finditer(r"\\([\\$])|\$(?:\{(\w++)\}|(\w++))", text):
        yield text[place : found.start()]
        yield found[1] or Variable(found[2] or found[3])
        place = found.end()
    yield text[place:]


_APACHE_NAMES = {
    "a": "remote_addr", "A": "server_addr", "B": "body_bytes_sent", "b": "body_bytes_sent", "D": "request_time_us",
    "f": "request_filename", "h": "remote_addr", "H": "server_protocol", "k": "connection_requests",
    "l": "remote_logname", "L": "request_log_id", "m": "request_method", "p": "server_port", "P": "pid", "q": "args",
    "r": "request", "R": "handler", "s": "status", "t": "time_local", "T": "request_time", "u": "remote_user", "U": "uri",
    "v": "server_name", "V": "host", "X": "connection_status", "I": "request_length", "O": "bytes_sent",
    "S": "bytes_total",
}  # fmt: skip
_APACHE_WITH = {"i": "http_", "o": "sent_http_", "C": "cookie_", "e": "env_", "n": "note_", "x": "ssl_"}
_APACHE_PAIR = {
    ("a", "c"): "realip_remote_addr", ("h", "c"): "realip_remote_addr", ("p", "remote"): "remote_port",
    ("p", "canonical"): "server_port", ("p", "local"): "local_port", ("P", "tid"): "tid", ("P", "hextid"): "tid",
    ("P", "pid"): "pid", ("T", "ms"): "request_time_ms", ("T", "us"): "request_time_us", ("T", "s"): "request_time",
    ("L", "c"): "connection_log_id",
}  # fmt: skip
_DIRECTIVE = re.compile(
    r"%(?P<codes>!?+[0-9,]*+)(?P<which>[<>]?+)(?:\{(?P<argument>[^}]*+)\})?+(?P<late>[<>]?+)(?P<letter>\^t[io]|[A-Za-z%])"
)
_TIME_PIECES = re.compile(r"%[!<>0-9,]*+\{[^}]*+\}t(?:[.,: T]?%[!<>0-9,]*+\{[^}]*+\}t)*+")


def _apache_argument(text: str, file_first: bool) -> str:
    """Return the form in a LogFormat or CustomLog line, whose nickname, file and conditions are left away."""
    text = re.sub(r"\\\r?\n\s*+", " ", text)
    argument = re.compile(r"\s*+(?:\"((?:[^\"\\]|\\.)*+)\"|'((?:[^'\\]|\\.)*+)'|(\S++))")
    found = argument.match(text)
    if found and file_first:
        found = argument.match(text, found.end())
    if not found:
        raise FormatMismatchError("the LogFormat line has no form behind its name; paste the whole line")
    form = next(group for group in found.groups() if group is not None)
    if found[3] is not None and form in NAMED:
        return NAMED[form]
    return re.sub(r"\\(.)", lambda f: _ESCAPES.get(f[1], f[1]), form)


def _apache(text: str) -> Iterator[Part]:
    place = 0
    while place < len(text):
        times = _TIME_PIECES.match(text, place)
        if times:
            yield Variable(_apache_time(re.findall(r"\{([^}]*+)\}", times[0])))
            place = times.end()
            continue
        if text[place] != "%":
            following = text.find("%", place)
            following = len(text) if following < 0 else following
            yield text[place:following]
            place = following
            continue
        found = _DIRECTIVE.match(text, place)
        if not found:
            raise FormatMismatchError(
                f"the log format has no directive of Apache at character {place + 1}: {printable(text[place : place + 12])}"
            )
        letter, argument = found["letter"], found["argument"]
        if letter == "%":
            yield "%"
        elif letter == "t" and argument is None:
            yield "["
            yield Variable("time_local")
            yield "]"
        else:
            yield Variable(_apache_name(letter, argument, found["which"] or found["late"], text, place))
        place = found.end()


def _apache_name(letter: str, argument: str | None, which: str, text: str, place: int) -> str:
    if letter.startswith("^"):
        return f"trailer_{header_name(argument or '')}"
    if argument is not None and letter in _APACHE_WITH:
        return _APACHE_WITH[letter] + header_name(argument)
    if argument is not None and (letter, argument) in _APACHE_PAIR:
        return _APACHE_PAIR[letter, argument]
    if letter not in _APACHE_NAMES or argument is not None:
        raise FormatMismatchError(
            f"the log format has a directive that Apache has not at character {place + 1}: "
            f"{printable(text[place : place + 12])}"
        )
    if letter == "h" and re.search(r"%[<>]?a", text):
        return "remote_host"
    if letter == "s" and which != ">" and ">s" in text:
        return "status_original"
    return _APACHE_NAMES[letter]


def _apache_time(pieces: list[str]) -> str:
    pieces = [re.sub(r"\A(?:begin|end):", "", piece) for piece in pieces]
    if pieces[0] in ("sec", "%s"):
        return "msec" if len(pieces) > 1 else "time_sec"
    if pieces[0] in ("msec", "usec"):
        return f"time_{pieces[0]}"
    return "time_local" if "%b" in pieces[0] or "%d/" in pieces[0] else "time"


_ENVOY_NAMES = {
    "START_TIME": "start_time", "PROTOCOL": "server_protocol", "RESPONSE_CODE": "status", "DURATION": "duration_ms",
    "BYTES_SENT": "bytes_sent", "BYTES_RECEIVED": "bytes_received", "DOWNSTREAM_REMOTE_ADDRESS": "remote_addr",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": "remote_addr", "DOWNSTREAM_REMOTE_PORT": "remote_port",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS": "realip_remote_addr",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": "realip_remote_addr", "UPSTREAM_HOST": "upstream_addr",
    "REQ(:METHOD)": "request_method", "REQ(:PATH)": "request_uri", "REQ(:AUTHORITY)": "host", "REQ(:SCHEME)": "scheme",
}  # fmt: skip


def _envoy(text: str) -> Iterator[Part]:
    place = 0
    for found in _ENVOY.finditer(text):
        yield text[place : found.start()].replace("%%", "%")
        operator, argument = found[1], found[2]
        if operator in ("REQ", "RESP", "TRAILER") and argument:
            header = argument.rpartition("?")[2] or argument
            known = _ENVOY_NAMES.get(f"{operator}({header.upper()})")
            prefix = {"REQ": "http_", "RESP": "sent_http_", "TRAILER": "trailer_"}[operator]
            yield Variable(known or prefix + header_name(header))
        elif argument and operator != "START_TIME":
            yield Variable(header_name(f"{operator}_{argument}"))
        else:
            yield Variable(_ENVOY_NAMES.get(operator, operator.lower()))
        place = found.end()
    yield text[place:].replace("%%", "%")


_HAPROXY_NAMES = {
    "ci": "remote_addr", "cp": "remote_port", "t": "time_local", "tr": "time_local", "trg": "time_local",
    "trl": "time_local", "T": "time_local", "Tl": "time_local", "ft": "frontend", "f": "frontend", "b": "backend",
    "s": "server", "ST": "status", "B": "bytes_sent", "U": "request_length", "CC": "captured_request_cookie",
    "CS": "captured_response_cookie", "tsc": "termination_state", "ts": "termination_state", "ac": "actconn",
    "fc": "feconn", "bc": "beconn", "sc": "srv_conn", "rc": "retries", "sq": "srv_queue", "bq": "backend_queue",
    "hr": "captured_request_headers", "hs": "captured_response_headers", "r": "request", "HM": "request_method",
    "HU": "request_uri", "HP": "uri", "HQ": "args", "HV": "server_protocol", "Ts": "time_sec", "ms": "time_ms",
    "si": "server_addr", "sp": "server_port", "H": "hostname", "bi": "backend_addr", "bp": "backend_port",
    "fi": "frontend_addr", "fp": "frontend_port", "ID": "request_id", "rt": "request_count", "Tt": "time_total_ms",
    "Ta": "time_active_ms", "TR": "time_request_ms", "Tw": "time_queue_ms", "Tc": "time_connect_ms",
    "Tr": "time_response_ms", "Tq": "time_q_ms", "Th": "time_h_ms", "Ti": "time_i_ms", "Tu": "time_u_ms",
    "Td": "time_d_ms",
}  # fmt: skip


def _haproxy(text: str) -> Iterator[Part]:
    text = text.replace("\\ ", " ").replace("%Ts.%ms", "%[msec]")
    place = 0
    for found in re.finditer(r"%(?:%|(?:\{([^}]*+)\})?+(?:\[([^]]*+)\]|([A-Za-z]++)))", text):
        yield text[place : found.start()]
        flags, sample, letters = found.groups()
        if found[0] == "%%":
            yield "%"
        else:
            name = header_name(sample) if sample is not None else _HAPROXY_NAMES.get(letters, header_name(letters))
            yield from ('"', Variable(name), '"') if flags and "+Q" in flags else (Variable(name),)
        place = found.end()
    yield text[place:]
