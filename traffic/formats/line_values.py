"""What a value in a log may be: an address, a time, a status, a request, as far as its text tells."""

from __future__ import annotations

import re
from http import HTTPStatus

from traffic.times.stamp_forms import NUMBER as NUMBER_FORM
from traffic.times.stamp_forms import match

# Besides the registered codes: those that nginx, IIS, Squid, AWS's and Cloudflare's servers, Twitter and others write.
STATUSES = frozenset(
    {str(int(code)) for code in HTTPStatus}
    | {"218", "419", "420", "430", "440", "444", "449", "450", "460", "463", "464", "494", "495", "496", "497", "498", "499"}
    | {"509", "520", "521", "522", "523", "524", "525", "526", "527", "529", "530", "540", "561", "598", "599", "783", "999"}
    | {"-", "000", "0", "-1"}
)
# Those that most services answer; other numbers may be lengths.
USUAL = STATUSES & {
    *("-", "200", "201", "204", "206", "301", "302", "304", "307", "308", "400", "401", "403", "404", "405", "408", "409"),
    *("410", "422", "429", "499", "500", "502", "503", "504"),
}
_IP4 = r"(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})"
# Some put a port behind without brackets.
_IP6 = rf"(?=[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:)[0-9A-Fa-f:]{{2,45}}(?:(?<=:){_IP4})?(?:%\w+)?"
_ONE = rf"(?:(?:\w+://)?{_IP4}(?::[0-9]{{1,5}})?|\[{_IP6}\](?::[0-9]{{1,5}})?|{_IP6}|unknown)"
ADDRESS = re.compile(rf"{_ONE}(?:, ?(?:{_ONE}|-))*")
HAS_PORT = re.compile(rf"(?:\w+://)?(?:{_IP4}|\[{_IP6}\]):[0-9]{{1,5}}|\w+://.*")
SERVER = re.compile(r".*:(?:80|443|8000|8080|8443)")
PRIVATE = re.compile(
    r"10\.|127\.|169\.254\.|192\.168\.|172\.(?:1[6-9]|2[0-9]|3[01])\.|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|f[cd]|::1"
)
_METHODS = (
    "GET|POST|PUT|HEAD|DELETE|OPTIONS|PATCH|CONNECT|TRACE|PROPFIND|PROPPATCH|MKCOL|COPY|MOVE|LOCK|UNLOCK|SEARCH|REPORT|PURGE"
    "|PRI|QUERY"
)
METHOD = re.compile(_METHODS)
REQUEST = re.compile(rf"(?:{_METHODS}) \S.*")
PATH = re.compile(r"(?:https?://|/)\S*|\*")
PROTOCOL = re.compile(r"HTTP/[0-9](?:\.[0-9])?|h2c?|h3")
URL = re.compile(r"(?:https?|android-app|ios-app)://\S*")
AGENT = re.compile(r"(?:Mozilla|[A-Za-z][\w.+ -]*)/v?[0-9].*|Mozilla.*|.*(?:[Bb]ot|[Cc]rawler|[Ss]pider|[Cc]lient)\b.*")
HOST = re.compile(r"(?=[^:]*[A-Za-z])(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?\.)+[A-Za-z0-9-]{2,}|localhost|_")
HOST_PORT = re.compile(rf"(?:{HOST.pattern}):[0-9]{{1,5}}")
IDENTITY = re.compile(r"[0-9a-f]{16,64}|[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
NUMBER = re.compile(r"[0-9.+-]+")
INTEGER = re.compile(r"[0-9]+|-")
CACHE_STATUS = re.compile(r"[A-Z_]+/[0-9]{3}")
STATUS_AND_TIMES = re.compile(r"[1-5][0-9]{2}(?:/[+-]?[0-9]+)+")
SCHEME = re.compile("https?")
DATE = re.compile(r"[0-9]{4}([-/.])[0-9]{2}\1[0-9]{2}|[0-9]{1,2}([-/.])(?:[0-9]{1,2}|[A-Z][a-z]{2})\2[0-9]{2,4}")
CLOCK = re.compile(r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?")
ZONE = re.compile(r"[+-][0-9]{2}:?[0-9]{2}|UTC|GMT")
ISO = re.compile(r"[0-9]{4}[-/.][0-9]{2}[-/.][0-9]{2}[T ].*")
# From 2001 to 2042, in seconds, milli-, micro- or nanoseconds.
EPOCH = re.compile(r"(?:1[0-9]{9}|2[0-2][0-9]{8})(?:\.[0-9]+|[0-9]{3}|[0-9]{6}|[0-9]{9})?")


def is_stamp(text: str) -> bool:
    """Tell whether this is a time of day with its date."""
    found = match(text.encode())
    return found is not None and found[0] is not NUMBER_FORM and found[1]["hour"] is not None


def is_client(text: str) -> bool:
    """Tell whether this can be the other end of a connection: an address, or a name or a hash, but no name with a port."""
    return text.startswith("unix:") or bool(ADDRESS.fullmatch(text) or re.fullmatch(r"[\w.+=@-]+", text))
