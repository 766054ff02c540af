"""Text from outside that is safe to print: short, without control characters, and without passwords."""

from __future__ import annotations

import re
import reprlib
from urllib.parse import quote, quote_plus, unquote, unquote_plus

__all__ = ["HIDDEN", "SECRET_NAMES", "passwords_in", "redact", "shorten_identifier", "shorten_repr", "shorten_text"]

HIDDEN = "***"  # stands in the place of a password
VALUE_CHARACTERS = 200  # of a wrong value in an error
IDENTIFIER_CHARACTERS = 80  # of an identifier in an error
MESSAGE_CHARACTERS = 10_000  # of a message that is searched for passwords; more is cut off
INTEGER_BITS = 2000  # of an integer that is written out; Python refuses to write those of more than 4,300 digits
PIECES = 30  # of a password, between special characters
LEAST_SECRET = 4  # characters; the pieces of a password that are shorter say nothing, and would garble the text
SECRET_NAMES = frozenset({"password", "sslpassword", "ssl_password", "sentinel_password", "passwd", "pwd"})

_NAMES = "|".join(sorted(SECRET_NAMES))
# A password may hold any character, so a URL loses all from its user's colon to the last "@" of the line.
_USER = re.compile(r"(?i)([a-z][a-z0-9+.-]{0,30}://)([^:@/?#\s'\"]*)(:?)[^\n]*@")
_BARE_USER = re.compile(r"([^:@/?#\s'\"]{1,100}|(?<=/)):(?!//)\S*@")
_QUOTED = r"'(?:\\.|[^'\\])*'?"
_PLAIN = r"(?:\\\s|.)*?(?=&\w*=|&?$|\s+\w+\s*=|['\"]?\s*$|['\"]\s|\n)"
_PAIR = re.compile(rf"(?i)\b({_NAMES})(\s*=\s*)({_QUOTED}|{_PLAIN})", re.MULTILINE)


class _Repr(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() <= INTEGER_BITS else f"<an integer of {x.bit_length()} bits>"


def shorten_repr(value: object, most: int = VALUE_CHARACTERS) -> str:
    """Return the repr of a value in at most `most` characters; of a long one the middle is left out.

    It never raises, whatever the value is.
    """
    short = _Repr()
    short.maxstring = short.maxother = short.maxlong = most
    try:
        shown = short.repr(str(value) if type(value) is not str and isinstance(value, str) else value)
    except Exception:  # noqa: BLE001 - a repr of a foreign class may raise anything
        shown = f"<{type(value).__name__}>"
    if len(shown) > most:
        shown = f"{shown[: most * 2 // 3]}...{shown[len(shown) - most // 3 + 3 :]}"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in shown)[:most]


def shorten_text(text: str, most: int = VALUE_CHARACTERS) -> str:
    """Return the beginning of a text in at most `most` characters, those that do not print as their escapes."""
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[: most + 1])
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


def shorten_identifier(identifier: object) -> str:
    """Return the repr of an identifier, of which an error holds at most 80 characters."""
    return shorten_repr(identifier, IDENTIFIER_CHARACTERS)


def redact(text: str, url: str = "") -> str:
    """Replace the passwords of URLs and connection strings in a text by ***.

    Parameters
    ----------
    text : str
        A URL, or a message that may hold one. A malformed URL loses more than its password.
    url : str
        A URL whose password, in any spelling and in pieces, may be in the text as well.
    """
    text = text[:MESSAGE_CHARACTERS]
    for secret in passwords_in(url):
        text = text.replace(secret, HIDDEN)
    text = _PAIR.sub(rf"\1\2{HIDDEN}", text)
    return _BARE_USER.sub(rf"\1:{HIDDEN}@", _USER.sub(_hide, text))


def _hide(match: re.Match[str]) -> str:
    scheme, user, colon = match.groups()
    # Without a colon the user may be a password that was put in its place; a user of PostgreSQL is needed, and often alone.
    known = user if colon or scheme.lower().removeprefix("hybrid+").startswith("postgres") else HIDDEN
    return f"{scheme}{known}{f':{HIDDEN}' if colon else ''}@"


def passwords_in(url: str) -> tuple[str, ...]:
    """Return what may be a password in a URL or a connection string, in every spelling; the longest comes first.

    Between the scheme and the last "@" all is taken for one, with its pieces between special characters, since a driver that
    misreads a URL tells of a piece of it.
    """
    found: set[str] = set()
    scheme, slashes, rest = url.partition("://")
    credentials, at, _ = (rest if slashes else scheme).rpartition("@")  # a URL may have been pasted without its scheme
    user, colon, password = credentials.partition(":")
    secrets = [match[3].strip("'\"") for match in _PAIR.finditer(url)]
    for secret in [*secrets, password if colon else user] if at else secrets:
        cuts = [match.start() for match in re.finditer(r"[/?#@:&=\s]", secret)][:PIECES]
        found |= {secret, *re.split(r"[/?#@:&=\s]", secret, maxsplit=PIECES)}
        found |= {part for cut in cuts for part in (secret[:cut], secret[cut + 1 :])}
    spelled: set[str] = set()
    for secret in found:
        for plain in (secret, unquote(secret), unquote_plus(secret)):
            data = plain.encode("utf-8", "surrogatepass")  # a word of the command line may hold bytes that are no UTF-8
            spelled |= {plain, quote(data, safe=""), quote(data), quote_plus(data), repr(plain)[1:-1]}
    return tuple(sorted((each for each in spelled if len(each) >= LEAST_SECRET), key=lambda each: (-len(each), each)))
