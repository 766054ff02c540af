"""Addresses of clients as names of keys: without port, brackets, zone and list, in one spelling, cut to a prefix if asked.

What is no address (a host name, an API key, a tenant) keeps its spelling. All functions take distinct values.

    203.0.113.7:40126                   203.0.113.7
    [2001:DB8::1]:443                   2001:db8::1
    ::ffff:203.0.113.7                  203.0.113.7
    203.0.113.7, 10.0.0.5               203.0.113.7     of a list the first one, unless another is asked for
    for="[2001:db8::1]:80";proto=https  2001:db8::1     https://www.rfc-editor.org/rfc/rfc7239
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import ip_network
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

NOBODY = "-"
NO_KEY, ALL = "none", "all"  # one key for all requests, as it is asked for and as it is then called
JOINT = "+"  # between the parts of a key
NO_CLIENT = frozenset(("", "-", "unknown", "(null)", "null", "none", "nil", "undefined"))  # in lower case
LONGEST = 4000  # characters of a list of addresses; a header is seldom longer than 8 KB
MAPPED = "::ffff:"
SCHEME = re.compile(r"(?:ipv[46]|tcp[46]?|udp[46]?):(?://)?", re.IGNORECASE)
FOR = re.compile(r"(?:^|[;,])[ \"']*for=", re.IGNORECASE)
PRIVATE = tuple(
    (len(net.network_address.packed), int(net.network_address), int(net.netmask))
    for net in map(
        ip_network,
        (
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16", "100.64.0.0/10"),
            *("fc00::/7", "fe80::/10", "::1/128"),
        ),
    )
)

# An IPv4 address as it is written by everybody, which is its own name.
PLAIN = r"^(?:(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])$"


def address(text: str, ports: bool = False) -> str | None:
    """Return the address in a text that holds just one, in its canonical spelling; None if it is no address.

    Parameters
    ----------
    text : str
        An address, perhaps with port, brackets, zone, a prefix of full length or a scheme ("ipv4:").
    ports : bool, optional
        Whether each address of this log has a port. Only so "2001:db8::1:8080" has one; "2001:db8::1:50718" always has.
    """
    try:
        inet_pton(AF_INET, text)
    except (OSError, ValueError):
        return _other_address(text, ports)
    return text


def _other_address(text: str, ports: bool) -> str | None:
    text = text.strip(" \t\"'()")
    scheme = SCHEME.match(text)
    if scheme:
        text = text[scheme.end() :]
    text = text.removesuffix("/32").removesuffix("/128")
    if text.startswith("["):
        inner, closed, port = text[1:].partition("]")
        return _ipv6(inner) if closed and (not port or _is_port(port.removeprefix(":"))) else None
    head, colon, port = text.rpartition(":")
    if not colon or ":" not in head:
        return _ipv4(head if colon and _is_port(port) else text)
    stripped = _ipv6(head) if _is_port(port) else None
    if ports and stripped:
        return stripped
    return _ipv6(text) or stripped


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) < 65536


def _ipv4(text: str) -> str | None:
    try:
        inet_pton(AF_INET, text)
    except (OSError, ValueError):
        return None
    return text


def _ipv6(text: str) -> str | None:
    text = text.partition("%")[0]
    try:
        spelled = inet_ntop(AF_INET6, inet_pton(AF_INET6, text))
    except (OSError, ValueError):
        return None
    return spelled.removeprefix(MAPPED) if "." in spelled and spelled.startswith(MAPPED) else spelled


def entries(text: str) -> list[str]:
    """Return the entries of an X-Forwarded-For or Forwarded header as it stands in a log, the client's own first.

    JSON lists, IIS's plus signs and CloudFront's percent signs for blanks are understood; empty entries are left out.
    """
    text = text[:LONGEST].replace("%20", " ")
    if text.startswith('["') and text.endswith('"]'):
        text = text[2:-2]
    found = []
    for entry in text.split(","):
        entry = entry.strip(" +\t\"'()")
        if "=" in entry:
            pairs = (pair.partition("=") for pair in entry.split(";"))
            entry = next((value.strip(" \"'") for name, _, value in pairs if name.strip(" \"'").lower() == "for"), entry)
        if entry:
            found.append(entry)
    return found


def is_client(text: str) -> bool:
    """Tell whether a text holds an address, or a list or a Forwarded header with one."""
    if address(text) is not None:
        return True
    return _is_listed(text) and any(address(entry) is not None for entry in entries(text))


def _is_listed(text: str) -> bool:
    return "," in text or text.startswith('["') or FOR.search(text) is not None


def is_private(text: str) -> bool:
    """Tell whether an address (as `address` returns it) can be no client from outside: private, loopback or link-local."""
    packed = inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    value = int.from_bytes(packed, "big")
    return any(size == len(packed) and value & mask == net for size, net, mask in PRIVATE)


def has_ports(values: Iterable[str]) -> bool:
    """Tell whether the addresses of a column have ports: some must have one, and none is an IPv4 address without."""
    some = False
    for value in values:
        if _ipv4(value):
            return False
        if not _ipv6(value):
            some |= not value.startswith("[") and address(value) is not None and ":" in value
    return some


def client_names(
    values: Sequence[str], pick: int = 0, ports: bool = False, prefix4: int | None = None, prefix6: int | None = None
) -> list[str]:
    """Return the name of the key of each client.

    Parameters
    ----------
    values : Sequence[str]
        Distinct values of a field.
    pick : int, optional
        Which entry of a list: 0 is the first, -1 the last, -2 the last but one. Of a shorter list it is the nearest one. The
        first and the last are looked for among the entries that are known: "unknown, 203.0.113.7" is 203.0.113.7.
    ports : bool, optional
        As for `address`.
    prefix4, prefix6 : int, optional
        Bits that are kept of an IPv4 and of an IPv6 address: "203.0.113.0/24" is the name of all 256 addresses.

    Returns
    -------
    list[str]
        The names; "-" where there is no client, and as it is what is no address.
    """
    names = []
    for value in values:
        name = address(value, ports) or _name(value, pick, ports)
        if prefix4 is not None or prefix6 is not None:
            name = shorten(name, prefix4, prefix6)
        names.append(name)
    return names


def names_behind_proxy(
    values: Sequence[str], pick: int = 0, ports: bool = False, prefix4: int | None = None, prefix6: int | None = None
) -> list[str]:
    """Return the name of the key of each client that may be a proxy.

    Parameters
    ----------
    values : Sequence[str]
        The client's address, a blank, and X-Forwarded-For ("-" where there is none). Of that the first address is the
        client where the other one is private or none.
    pick, ports, prefix4, prefix6
        As for `client_names`.
    """
    chosen = []
    for value in values:
        at = value.find(" ")
        while at > 0 and value[at - 1] == ",":
            at = value.find(" ", at + 1)
        client, forwarded = (value[:at], value[at + 1 :]) if at >= 0 else (value, NOBODY)
        found = address(client, ports)
        hidden = is_private(found) if found else _or_nobody(client) == NOBODY
        chosen.append(forwarded if hidden and is_client(forwarded) else client)
    return client_names(chosen, pick, ports, prefix4, prefix6)


def _name(text: str, pick: int, ports: bool) -> str:
    if _is_listed(text):
        listed = entries(text)
        if pick in (0, -1):
            listed = [entry for entry in listed if entry.lower() not in NO_CLIENT]
        if not listed:
            return NOBODY
        if FOR.search(text) or any(address(entry, ports) for entry in listed):
            entry = listed[max(-len(listed), min(pick, len(listed) - 1))]
            return address(entry, ports) or _or_nobody(entry)
    return _or_nobody(text)


def _or_nobody(text: str) -> str:
    return NOBODY if text.strip().lower() in NO_CLIENT else text


@lru_cache(maxsize=130)
def _mask(size: int, bits: int) -> int:
    return ((1 << bits) - 1) << (8 * size - bits)


def shorten(name: str, prefix4: int | None = 24, prefix6: int | None = 48) -> str:
    """Return the network of an address, "203.0.113.0/24" or "2001:db8::/48"; any other name as it is."""
    family, bits = (AF_INET6, prefix6) if ":" in name else (AF_INET, prefix4)
    if bits is None:
        return name
    try:
        packed = inet_pton(family, name)
    except (OSError, ValueError):
        return name
    size = len(packed)
    net = int.from_bytes(packed, "big") & _mask(size, bits)
    return f"{inet_ntop(family, net.to_bytes(size, 'big'))}/{bits}"
