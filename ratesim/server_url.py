"""The URL of a Redis or PostgreSQL server: checked, and written as its driver reads it.

No message holds a part of a URL that may be a password. What stands in the place of a port, a database or a host may be the
rest of one that was not percent-encoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Literal, NamedTuple
from urllib.parse import quote, unquote

from ratesim.errors import ConfigurationError

__all__ = [
    "DRIVER_OPTIONS",
    "POSTGRES_SCHEMES",
    "REDIS_SCHEMES",
    "SCHEMES",
    "ServerURL",
    "address_of",
    "driver_url",
    "postgres_url",
    "raise_for_twice",
    "redis_hosts",
    "redis_node_urls",
    "redis_primary_url",
    "redis_service",
    "redis_topology",
    "redis_url",
    "split_url",
    "unknown_option",
]

Topology = Literal["standalone", "cluster", "sentinel"]

# The schemes of clients and of other limiters, with the one that a checked URL has.
REDIS_SCHEMES = {
    "redis": "redis", "valkey": "redis", "rediss": "rediss", "valkeys": "rediss",
    "unix": "unix", "redis+unix": "unix", "valkey+unix": "unix", "redis+socket": "unix",
    "redis+cluster": "redis+cluster", "valkey+cluster": "redis+cluster",
    "rediss+cluster": "rediss+cluster", "valkeys+cluster": "rediss+cluster",
    "redis+sentinel": "redis+sentinel", "valkey+sentinel": "redis+sentinel",
    "rediss+sentinel": "rediss+sentinel", "valkeys+sentinel": "rediss+sentinel",
}  # fmt: skip
POSTGRES_SCHEMES = {"postgresql": "postgresql", "postgres": "postgresql"}

_TLS = (
    "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_cert_reqs", "ssl_check_hostname",
)  # fmt: skip
_SENTINEL = ("sentinel_username", "sentinel_password")
_LIBPQ = """
    application_name channel_binding client_encoding connect_timeout dbname fallback_application_name gssdelegation
    gssencmode gsslib host hostaddr keepalives keepalives_count keepalives_idle keepalives_interval krbsrvname
    load_balance_hosts max_protocol_version min_protocol_version options passfile password port replication require_auth
    requirepeer service servicefile sslcert sslcertmode sslcompression sslcrl sslcrldir sslkey sslmode sslnegotiation
    sslpassword sslrootcert sslsni ssl_max_protocol_version ssl_min_protocol_version target_session_attrs tcp_user_timeout
    user
"""
SCHEMES = f"memory, {', '.join([*REDIS_SCHEMES, *POSTGRES_SCHEMES])}, hybrid+redis, hybrid+postgresql"
DRIVER_OPTIONS = {
    "memory": frozenset[str](),
    "redis": frozenset({"db", "username", "password", "client_name", *_TLS, *_SENTINEL}),
}
DRIVER_OPTIONS["postgres"] = frozenset(_LIBPQ.split())

LONGEST = 8000  # characters
MOST_OPTIONS = 200
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,39}")
_OPTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
_HOST = re.compile(r"(\[[0-9A-Za-z:.%_-]+\]|[^\s\[\]:]*)(?::([0-9]{0,5}))?")
_DATABASE = re.compile(r"[0-9]{1,9}")
_SERVICE = re.compile(r"[A-Za-z0-9._-]{1,200}")  # what a sentinel takes for a name
_CLUSTER_MODE = re.compile(r"(?i)[?&]cluster_mode=\s*(true|1|yes)\s*(&|$)")
_ENCODE = "percent-encode what is special in its password ('/' is %2F, '@' is %40, '?' is %3F, '#' is %23)"


class ServerURL(NamedTuple):
    """The parts of a URL, decoded.

    Attributes
    ----------
    scheme : str
        As it is written.
    user, password : str or None
        Credentials.
    host : str
        One host or several with their ports, as they are written; "" where there is none.
    path : str
        The path with its slash, as it is written.
    options : list[tuple[str, str]]
        Names and values of the query.
    """

    scheme: str
    user: str | None
    password: str | None
    host: str
    path: str
    options: list[tuple[str, str]]

    @property
    def has_secret(self) -> bool:
        """Whether a password is in it, or may be."""
        lone_user = self.user is not None and self.scheme not in POSTGRES_SCHEMES  # a password is often put in its place
        named = any("pass" in name.lower() or "@" in name + value for name, value in self.options)
        return self.password is not None or lone_user or named

    def text(self, scheme: str, options: Iterable[tuple[str, str]]) -> str:
        """Write the URL with all special characters of its credentials percent-encoded."""
        credentials = ""
        if self.user is not None or self.password is not None:
            password = "" if self.password is None else f":{quote(self.password, safe='')}"
            credentials = f"{quote(self.user or '', safe='')}{password}@"
        # Commas and slashes stay as they are: libpq reads several hosts, and a socket's directory, from them.
        query = "&".join(f"{quote(name)}={quote(value, safe='/,')}" for name, value in options)
        return f"{scheme}://{credentials}{self.host}{self.path}{'?' if query else ''}{query}"


def split_url(url: str) -> ServerURL:
    """Split a URL with the scheme of a server. Raises ConfigurationError."""
    scheme, separator, rest = url.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        raise ConfigurationError(f"storage URL: begin it with a scheme, such as redis://; known are {SCHEMES}")
    where = f"storage URL of {scheme}"
    if len(url) > LONGEST or not url.isprintable():
        raise ConfigurationError(f"{where}: it is longer than {LONGEST} characters, or has one that does not print")
    end = min((place for letter in "/?#" if (place := rest.find(letter)) >= 0), default=len(rest))
    authority, tail = rest[:end], rest[end:]
    if "@" in tail and scheme != "memory":  # which has no password, and may have such a directory
        raise ConfigurationError(f"{where}: there is an '@' after its host; {_ENCODE}, and an '@' elsewhere as %40")
    if "#" in tail:
        raise ConfigurationError(f"{where}: it has a '#'; percent-encode it as %23, or drop what follows")
    credentials, at, host = authority.rpartition("@")
    user, colon, password = credentials.partition(":")
    path, _, query = tail.partition("?")
    try:
        return ServerURL(
            scheme,
            _decoded(user) if at else None,
            _decoded(password) if colon else None,
            _checked_host(host, where),
            path,
            _options_of(query, "postgres" in scheme),
        )
    except UnicodeDecodeError:
        raise ConfigurationError(f"{where}: what is percent-encoded in it is not UTF-8") from None


def _decoded(text: str) -> str:
    return unquote(text, errors="strict")


def _checked_host(text: str, where: str) -> str:
    for each in text.split(","):  # libpq takes several
        match = _HOST.fullmatch(each)
        if match is None or (match[2] and not 0 < int(match[2]) < 65536):
            raise ConfigurationError(
                f"{where}: its host or port is wrong: write host:port with a port from 1 to 65535, put an IPv6 address in "
                f"[], and {_ENCODE}"
            )
    return text


def _options_of(query: str, libpq: bool) -> list[tuple[str, str]]:
    """Split a query. A plus is a blank as in a form, except where libpq reads it."""
    pairs = []
    for part in query.split("&", MOST_OPTIONS):
        name, _, value = part.partition("=")
        if part:
            name = _decoded(name)
            pairs.append(
                (name, _decoded(value if libpq and name in DRIVER_OPTIONS["postgres"] else value.replace("+", " ")))
            )
    return pairs


def unknown_option(where: str, options: Sequence[tuple[str, str]], name: str, known: Iterable[str], secret: bool) -> str:
    """Say that an option is unknown, and which known one is nearest.

    A name that may be a piece of a password is not shown.
    """
    known = sorted(known)
    place = next(place for place, pair in enumerate(options, 1) if pair[0] == name)
    shown = repr(name) if _OPTION.fullmatch(name) and not secret else f"number {place}"
    near = get_close_matches(name[:40], known, 1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"unknown option {shown} for {where}; {meant}known: {', '.join(known)}"


def raise_for_twice(options: Iterable[tuple[str, str]], where: str) -> None:
    """Raise ConfigurationError if an option is given twice."""
    seen: set[str] = set()
    for name, _ in options:
        if name in seen:
            raise ConfigurationError(f"{where}: an option is given twice; name each once")
        seen.add(name)


def redis_topology(url: str) -> Topology:
    """Tell what a Redis URL leads to, by its scheme or its option cluster_mode; "standalone" for any other text."""
    kind = url.partition("://")[0].rpartition("+")[2]
    if kind == "sentinel":
        return "sentinel"
    return "cluster" if kind == "cluster" or _CLUSTER_MODE.search(url) else "standalone"


def redis_url(url: str, cluster: bool = False) -> str:
    """Check the URL of a Redis or Valkey, and write it with the scheme that names its topology.

    Parameters
    ----------
    url : str
        The URL.
    cluster : bool
        Whether a server that is named alone is a node of a cluster.

    Raises
    ------
    ConfigurationError
        If a part of it makes no sense.
    """
    parts = split_url(url)
    scheme = REDIS_SCHEMES.get(parts.scheme)
    if scheme is None:
        raise ConfigurationError(f"redis URL with another scheme; known are {', '.join(REDIS_SCHEMES)}")
    where = f"storage URL of {parts.scheme}"
    raise_for_twice(parts.options, where)
    if cluster and redis_topology(url) != "cluster":
        if scheme not in ("redis", "rediss"):
            raise ConfigurationError(f"{where}: cluster_mode needs redis:// or rediss://, or drop cluster_mode")
        scheme = f"{scheme}+cluster"
    topology = redis_topology(f"{scheme}://")
    options = dict(parts.options)
    for name in options:
        if name not in DRIVER_OPTIONS["redis"]:
            raise ConfigurationError(
                unknown_option(parts.scheme, parts.options, name, DRIVER_OPTIONS["redis"], parts.has_secret)
            )
        if name in _TLS and not scheme.startswith("rediss"):
            raise ConfigurationError(f"{where}: {name} needs TLS: begin the URL with rediss://")
        if name in _SENTINEL and topology != "sentinel":
            raise ConfigurationError(f"{where}: {name} needs sentinels: begin the URL with redis+sentinel://")
    if topology == "standalone" and "," in parts.host:
        raise ConfigurationError(
            f"{where}: it names several hosts; name one, or begin the URL with redis+cluster:// or redis+sentinel://"
        )
    if "," in parts.host and not all(host.partition(":")[0] for host in parts.host.split(",")):
        raise ConfigurationError(f"{where}: one of its hosts is empty; write h1:port,h2:port")
    user, password = options.pop("username", parts.user), options.pop("password", parts.password)
    if not _DATABASE.fullmatch(options.get("db", "0")):
        raise ConfigurationError(f"{where}: db must be the number of a database")
    if scheme == "unix":
        if parts.host or not parts.path.strip("/"):
            raise ConfigurationError(
                f"{where}: write the path of the socket after three slashes, such as unix:///run/redis.sock"
            )
        path = parts.path
    else:
        path = _checked_path(parts.path, options.get("db"), topology, where)
    if not re.fullmatch(r"[!-~]*", options.get("client_name", "")):
        raise ConfigurationError(f"{where}: client_name must be of printing ASCII characters without blanks")
    if options.get("ssl_cert_reqs", "none") not in ("none", "optional", "required"):
        raise ConfigurationError(f"{where}: ssl_cert_reqs must be none, optional or required")
    if options.get("ssl_check_hostname", "true").lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise ConfigurationError(f"{where}: ssl_check_hostname must be true or false")
    for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"):
        if not options.get(name, name).strip():
            raise ConfigurationError(f"{where}: {name} must be a path")
    return parts._replace(user=user, password=password, path=path).text(scheme, options.items())


def _checked_path(path: str, db: str | None, topology: Topology, where: str) -> str:
    """Check what follows the hosts, which db may repeat: the database, for sentinels behind the name of their service."""
    service, database = "", path.removeprefix("/")
    if topology == "sentinel":
        service, _, database = database.partition("/")
        if not _SERVICE.fullmatch(unquote(service)):
            raise ConfigurationError(
                f"{where}: after the hosts comes the name of the service that the sentinels watch, such as /mymaster"
            )
    if database and not _DATABASE.fullmatch(database):
        raise ConfigurationError(f"{where}: after the host comes the number of a database, such as /0")
    if topology == "cluster" and (int(database or 0) or int(db or 0)):
        raise ConfigurationError(f"{where}: a cluster has only database 0; drop the number")
    if db is not None and database not in ("", db):
        raise ConfigurationError(f"{where}: db is not the database that its path names; give one of them")
    return "".join(f"/{part}" for part in (service, database) if part) or path


def redis_hosts(url: str) -> list[tuple[str, int]]:
    """Return the hosts and ports of a checked Redis URL: nodes of a cluster, or sentinels; none for a socket."""
    parts = split_url(url)
    if parts.scheme == "unix":
        return []
    default = 26379 if redis_topology(url) == "sentinel" else 6379
    found = []
    for each in parts.host.split(","):
        match = _HOST.fullmatch(each)
        assert match is not None
        found.append((match[1].strip("[]") or "localhost", int(match[2] or default)))
    return found


def redis_service(url: str) -> str:
    """Return the name of the service that the sentinels of a checked URL watch; "" for another topology."""
    return unquote(split_url(url).path.split("/")[1]) if redis_topology(url) == "sentinel" else ""


def redis_node_urls(url: str) -> list[str]:
    """Write a checked URL once for each of its hosts, as redis-py reads it; sentinels have their own credentials."""
    parts, topology = split_url(url), redis_topology(url)
    if topology == "standalone":
        return [url]
    options = dict(parts.options)
    own = {name: options.pop(name, None) for name in _SENTINEL}
    if topology == "sentinel":
        options.pop("db", None)
        parts = parts._replace(user=own["sentinel_username"], password=own["sentinel_password"], path="")
    scheme = parts.scheme.partition("+")[0]
    return [parts._replace(host=each).text(scheme, options.items()) for each in map(_written, redis_hosts(url))]


def redis_primary_url(url: str) -> str:
    """Write the checked URL of sentinels as redis-py reads that of their primary, whose host is not known."""
    parts = split_url(url)
    options = [pair for pair in parts.options if pair[0] not in _SENTINEL]
    primary = parts._replace(host="", path="/".join(["", *parts.path.split("/")[2:]]))
    return primary.text(parts.scheme.partition("+")[0], options)


def _written(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def postgres_url(url: str) -> str:
    """Check the URL of a PostgreSQL, and write it as libpq reads it; a string of name=value pairs stays as it is.

    Raises ConfigurationError.
    """
    if "://" not in url and re.match(r"\s*\w+\s*=", url):
        return url
    parts = split_url(url)
    if parts.scheme not in POSTGRES_SCHEMES:
        raise ConfigurationError(f"PostgreSQL URL with another scheme; known are {', '.join(POSTGRES_SCHEMES)}")
    raise_for_twice(parts.options, f"storage URL of {parts.scheme}")
    for name, _ in parts.options:
        if name not in DRIVER_OPTIONS["postgres"]:
            raise ConfigurationError(
                unknown_option(parts.scheme, parts.options, name, DRIVER_OPTIONS["postgres"], parts.has_secret)
            )
    return parts.text(parts.scheme, parts.options)


def driver_url(url: str) -> str:
    """Drop from the URL of a storage what is no part of its server's address, and check it. Raises ConfigurationError."""
    if "://" not in url:
        return postgres_url(url)
    parts = split_url(url)
    backend = "redis" if parts.scheme in REDIS_SCHEMES else "postgres"
    kept = parts.text(parts.scheme, [pair for pair in parts.options if pair[0] in DRIVER_OPTIONS[backend]])
    return redis_url(kept, redis_topology(url) == "cluster") if backend == "redis" else postgres_url(kept)


def address_of(url: str) -> str:
    """Return the host and the port, or the socket, of a checked Redis URL, for messages; of several hosts the first."""
    parts = split_url(url)
    if parts.scheme == "unix":
        return unquote(parts.path)
    hosts = redis_hosts(url)
    first = _written(hosts[0])
    topology = redis_topology(url)
    many = f"{first} and {len(hosts) - 1} more" if len(hosts) > 1 else first
    if topology == "cluster":
        return f"cluster {many}"
    return f"{redis_service(url)} of sentinel {many}" if topology == "sentinel" else first
