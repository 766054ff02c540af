"""Placeholders of gunicorn, uWSGI, morgan and Squid: words for what nginx has variables for.

Sources: https://docs.gunicorn.org/en/stable/settings.html#access-log-format,
https://uwsgi-docs.readthedocs.io/en/latest/LogFormat.html, https://github.com/expressjs/morgan#tokens,
http://www.squid-cache.org/Doc/config/logformat/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from traffic.formats.template_parts import Part, Variable, header_name

_PYTHON = re.compile(r"%\((?:\{([^}]*+)\}([ioe])|([a-zA-Z_][\w.:-]*+))\)s?")
_PYTHON_NAMES = {
    "h": "remote_addr", "l": "remote_logname", "u": "remote_user", "r": "request", "m": "request_method", "U": "uri",
    "q": "args", "H": "server_protocol", "s": "status", "B": "body_bytes_sent", "b": "body_bytes_sent", "f": "http_referer",
    "a": "http_user_agent", "T": "request_time", "M": "request_time_ms", "D": "request_time_us", "L": "request_time",
    "p": "pid", "addr": "remote_addr", "user": "remote_user", "method": "request_method", "uri": "request_uri",
    "proto": "server_protocol", "size": "body_bytes_sent", "rsize": "body_bytes_sent", "referer": "http_referer",
    "uagent": "http_user_agent", "ltime": "time_local", "ctime": "time", "time": "time_sec", "tmsecs": "time_msec",
    "tmicros": "time_usec", "msecs": "request_time_ms", "micros": "request_time_us", "secs": "request_time",
}  # fmt: skip
_MORGAN = re.compile(r":([a-z][a-z-]*+)(?:\[([^]]*+)\])?+")
_MORGAN_NAMES = {
    "remote-addr": "remote_addr", "remote-user": "remote_user", "date": "time", "method": "request_method",
    "url": "request_uri", "http-version": "http_version", "status": "status", "referrer": "http_referer",
    "user-agent": "http_user_agent", "response-time": "request_time_ms", "total-time": "total_time_ms",
}  # fmt: skip
_SQUID = re.compile(r"%(?:%|[\"'\[#/]?-?[0-9.]*+(?:\{([^}]*+)\})?+([<>]{0,2}[A-Za-z_:]{1,4}))")
_SQUID_NAMES = {
    "ts": "msec", "tl": "time_local", "tr": "elapsed", ">a": "remote_addr", ">A": "remote_host", ">p": "remote_port",
    "<a": "upstream_addr", "<A": "upstream_host", "Ss": "cache_result", ">Hs": "status", "Hs": "status",
    "<Hs": "upstream_status", "<st": "bytes_sent", ">st": "request_length", "rm": "request_method", "ru": "request_uri",
    "rp": "uri", "rv": "protocol_version", "un": "remote_user", "ul": "remote_user", "ui": "remote_logname",
    "Sh": "hierarchy", "mt": "content_type", "la": "server_addr", "lp": "server_port", "dt": "dns_time_ms",
}  # fmt: skip


def placeholders(text: str) -> list[Part] | None:
    """Cut a form of one of these languages into text and variables; None if it is of none."""
    if _PYTHON.search(text):
        return list(_cut(_PYTHON, text, _python))
    if re.search(r"(?<!\w):(?:remote-addr|remote-user|status|url|method|response-time|date)\b", text):
        return list(_cut(_MORGAN, text.replace("HTTP/:http-version", ":http-protocol"), _morgan))
    if re.search(r"%[0-9]*(?:ts\b|>a|Ss/|<st|tl\b)", text):
        return list(_cut(_SQUID, text.replace("%ts.%03tu", "%ts").replace("]%tl", "%tl"), _squid))
    return None


def _cut(pattern: re.Pattern[str], text: str, parts: Callable[[re.Match[str]], list[Part]]) -> Iterator[Part]:
    place = 0
    for found in pattern.finditer(text):
        yield text[place : found.start()]
        yield from parts(found)
        place = found.end()
    yield text[place:]


def _python(found: re.Match[str]) -> list[Part]:
    header, kind, letters = found.groups()
    if header is not None:
        return [Variable({"i": "http_", "o": "sent_http_", "e": "env_"}[kind] + header_name(header))]
    if letters == "t":
        return ["[", Variable("time_local"), "]"]
    return [Variable(_PYTHON_NAMES.get(letters, header_name(letters)))]


def _morgan(found: re.Match[str]) -> list[Part]:
    name, argument = found.groups()
    if name in ("req", "res") and argument:
        size = name == "res" and argument.lower() == "content-length"
        return [
            Variable("body_bytes_sent" if size else ("http_" if name == "req" else "sent_http_") + header_name(argument))
        ]
    if name == "date" and argument == "clf":
        return [Variable("time_local")]
    if name == "http-protocol":
        return [Variable("server_protocol")]
    return [Variable(_MORGAN_NAMES.get(name, header_name(name)))]


def _squid(found: re.Match[str]) -> list[Part]:
    argument, letters = found.groups()
    if letters is None:
        return ["%"]
    padded: list[Part] = ["  "] if re.match(r"%-?[1-9]", found[0]) else []
    if argument and letters in (">h", "<h"):
        return [*padded, Variable(("http_" if letters == ">h" else "sent_http_") + header_name(argument))]
    return [*padded, Variable(_SQUID_NAMES.get(letters, header_name(letters)))]
