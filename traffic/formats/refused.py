"""Logs that are no record of requests, told by their lines and refused by name: `refuse`."""

from __future__ import annotations

import re

from traffic.formats.base import Block, FormatMismatchError

FIRST_LINES = 200

# What nginx and Apache say of themselves and of the requests that failed.
NGINX_ERROR = re.compile(
    rb"[0-9]{4}/[0-9]{2}/[0-9]{2} [0-9:]{8} \[(?:debug|info|notice|warn|error|crit|alert|emerg)\] [0-9]+#[0-9]+:"
)
APACHE_ERROR = re.compile(
    rb"\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9]{2} [0-9:.]+ [0-9]{4}\] \[(?:\w+:)?(?:debug|info|notice|warn|error|crit)\]"
)

# HAProxy's connections without HTTP, and those that failed before a request (its "error log format").
TCPLOG = re.compile(rb"\S+:[0-9]+ \[[^]]*\] \S+ \S+/\S+ [0-9+-]+/[0-9+-]+/[0-9+-]+ [0-9]+ \S\S \S+/\S+/")
UNASKED = re.compile(rb"\S+:[0-9]+ \[[^]]*\] [^\s/]+/[^\s/]+: ")

KLOG = re.compile(rb"[IWEF][0-9]{4} [0-9:]{8}\.[0-9]+ +[0-9]+ [\w./-]+:[0-9]+\]")
ENTRYPOINT = re.compile(rb"/docker-entrypoint[\w./-]*: ")
OWN_LINE = re.compile(b"|".join(each.pattern for each in (NGINX_ERROR, APACHE_ERROR, KLOG, ENTRYPOINT, TCPLOG, UNASKED)))
"""What a server says of itself, and of connections without a request, among its requests."""

REFUSED: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (
        re.compile(rb"tls [0-9.]+ [0-9-]{10}T[0-9:]{8}\S* net/"),
        "is a Network Load Balancer's log, which has TLS connections and no requests; name the log of the service behind it",
    ),
    (
        TCPLOG,
        "is HAProxy's tcplog, which has connections and no requests; set `option httplog`",
    ),
    (
        NGINX_ERROR,
        "is nginx's error log; name its access log",
    ),
    (
        APACHE_ERROR,
        "is Apache's error log; name its access log",
    ),
    (
        re.compile(rb"[0-9]+ [0-9]{12} eni-[0-9a-f]+ \S+ \S+ "),
        "is a VPC flow log, which has packets and no requests; name the log of the load balancer",
    ),
)


def is_own_line(line: str) -> bool:
    """Tell whether a line is no request but what a server says of itself."""
    return OWN_LINE.match(line.encode()) is not None


def without_own_lines(block: Block) -> Block:
    """Return a block without what servers say of themselves; as it is where there is nothing else."""
    lines = block.data.split(b"\n")
    kept = [line for line in lines if not OWN_LINE.match(line)]
    return Block(b"\n".join(kept), block.line) if len(kept) < len(lines) and any(map(bytes.strip, kept)) else block


def refuse(block: Block) -> None:
    """Raise FormatMismatchError where at least half of the first lines are of a log that has no requests.

    The message names the log and the one to take in its place.
    """
    lines = [line for line in block.data.split(b"\n", FIRST_LINES)[:FIRST_LINES] if line.strip()]
    for pattern, sentence in REFUSED:
        if lines and 2 * sum(pattern.match(line) is not None for line in lines) >= len(lines):
            raise FormatMismatchError(sentence)
