"""How text from a scenario gets into a file: never as more than the text it is."""

from __future__ import annotations

import textwrap
from urllib.parse import unquote_plus

from ratesim.errors import ConfigurationError
from ratesim.formatting import escape_control_chars
from ratesim.safe_text import SECRET_NAMES

__all__ = ["HIDDEN", "escape_unprintable", "has_secret", "quote_text", "redact_url", "to_comment"]

HIDDEN = "***"  # stands in the place of a password
WIDTH = 118


def to_comment(text: str, mark: str = "#") -> str:
    """Write the text as lines of comment that begin with `mark` and end in a newline.

    A line break in the text, or any other character that does not print, is shown as its escape.
    """
    lines = textwrap.wrap(escape_control_chars(text), WIDTH, break_on_hyphens=False)
    return "".join(f"{mark} {line}\n" for line in lines)


def quote_text(text: str) -> str:
    """Put the text in double quotes, as TOML, YAML and JSON read it, and escape what does not print."""
    escapes = {'"': '\\"', "\\": "\\\\"}
    return '"' + "".join(escapes.get(letter) or _escaped(letter) for letter in text) + '"'


def escape_unprintable(document: str) -> str:
    """Escape every character of a TOML document that does not print, except its line ends."""
    return "".join(letter if letter == "\n" else _escaped(letter) for letter in document)


def _escaped(letter: str) -> str:
    if letter.isprintable():
        return letter
    number = ord(letter)
    if 0xD800 <= number <= 0xDFFF:
        raise ConfigurationError(f"{letter!r} is half of a surrogate pair, which no file can hold")
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def redact_url(url: str) -> str:
    """Replace the passwords in a storage URL by ***.

    Raises
    ------
    ConfigurationError
        There is an "@" after the host, which belongs to a password that was not percent-encoded.
    """
    scheme, separator, rest = url.partition("://")
    end = next((place for place, letter in enumerate(rest) if letter in "/?#"), len(rest))
    authority, tail = rest[:end], rest[end:]
    path, mark, query = tail.partition("?")
    if "@" in path:
        raise ConfigurationError("storage URL with an '@' after its host: percent-encode what is special in its password")
    user, colon, _ = authority.rpartition("@")[0].partition(":")
    if colon:
        authority = f"{user}:{HIDDEN}@{authority.rpartition('@')[2]}"
    return f"{scheme}{separator}{authority}{path}{mark}{'&'.join(map(_shown, query.split('&')))}"


def _shown(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    return f"{name}={HIDDEN}" if equals and unquote_plus(name) in SECRET_NAMES else pair


def has_secret(url: str) -> bool:
    """Whether a password is in the URL, or `redact_url` has taken one out of it."""
    return HIDDEN in redact_url(url)
