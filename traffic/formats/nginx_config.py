"""What `--log-format` may be: a form, or `@nginx.conf:name`, the place of one in a server's configuration."""

from __future__ import annotations

import re
from pathlib import Path

from traffic.formats.base import FormatMismatchError
from traffic.formats.template import Template
from traffic.formats.template_dialects import NAMED
from traffic.provenance import printable

MAX_BYTES = 1 << 20
SHOWN = 20

_QUOTED = r"'(?:[^'\\]|\\.)*+'|\"(?:[^\"\\]|\\.)*+\""
# Only the beginning of a line counts: other parts of a configuration (Lua, for one) have quotes and signs of their own.
_NGINX = re.compile(
    rf"^(?:[^#\n'\"]*[{{;}}])?[ \t]*+(?P<form>log_format\s++(?P<name>[^\s;]++)(?:{_QUOTED}|#[^\n]*+|[^;'\"#])++;)",
    re.MULTILINE,
)
_APACHE = re.compile(
    rf"^[ \t]*+(?P<form>LogFormat[ \t]++(?:{_QUOTED})[ \t]++(?P<name>[^\s#]++)"
    rf"|CustomLog[ \t]++(?P<file>(?:{_QUOTED}|\S++))[ \t]++(?:{_QUOTED}).*+)",
    re.MULTILINE | re.IGNORECASE,
)
_HAPROXY = re.compile(r"^[ \t]*+(?P<form>log-format[ \t]++(?P<rest>\S.*+))", re.MULTILINE)
_INCLUDE = re.compile(r"^[ \t]*+include(?:optional)?[ \t]++([^\s;]++)", re.MULTILINE | re.IGNORECASE)


def read_log_format(text: str) -> Template:
    """Read the value of `--log-format`.

    Parameters
    ----------
    text : str
        A form as `Template.parse` reads it; or one of the names `combined`, `common`, `vhost_combined`, `main`; or
        `@FILE:NAME`, the form of that name in a configuration of nginx, Apache or HAProxy. `@FILE` does where the file has
        one form, or is one.

    Raises
    ------
    FormatMismatchError
        If it is no form, the file cannot be read, or has not got it; the message lists the names that there are.
    """
    if not text.startswith("@"):
        return Template.parse(text)
    path, name = _place(text[1:])
    config = _read(path)
    forms = log_formats(config)
    shown = printable(str(path))
    if name is None:
        if len(forms) == 1:
            return Template.parse(next(iter(forms.values())))
        if forms:
            raise FormatMismatchError(f"{shown} has several log formats; add the name of one: {_list(forms, shown)}")
        return Template.parse(config)
    if name in forms:
        return Template.parse(forms[name])
    if name in NAMED:
        return Template.parse(NAMED[name])
    includes = [printable(include) for include in _INCLUDE.findall(config)[:SHOWN]]
    also = f"; it includes {', '.join(includes)}, which are not read: name the file that has it" if includes else ""
    known = f"it has {_list(forms, '')}" if forms else "it has none"
    raise FormatMismatchError(f"{shown} has no log format {printable(name)!r}; {known}{also}")


def log_formats(config: str) -> dict[str, str]:
    """Find the directives in a configuration that say how a line is written, by name; of equal names the last one counts."""
    forms = {found["name"]: found["form"] for found in _NGINX.finditer(config)}
    if forms:
        return forms
    joined = re.sub(r"\\\r?\n", " ", config)
    for found in _APACHE.finditer(joined):
        file = (found["file"] or "").strip("\"'")
        forms[found["name"] or file.rpartition("/")[2]] = found["form"]
    if not forms:
        forms |= [("log-format", found["form"]) for found in _HAPROXY.finditer(config)]
    return forms


def _place(text: str) -> tuple[Path, str | None]:
    """Cut "FILE:NAME"; a file whose own name has the colon goes first."""
    whole = Path(text).expanduser()
    file, colon, name = text.rpartition(":")
    if not colon or whole.is_file() or not name or "/" in name or "\\" in name:
        return whole, None
    return Path(file).expanduser(), name


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise FormatMismatchError(f"{printable(str(path))} cannot be read for the log format: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise FormatMismatchError(f"{printable(str(path))} is longer than 1 MiB; name the file that has the log format")
    return data.decode("utf-8", "replace")


def _list(forms: dict[str, str], shown: str) -> str:
    prefix = f"@{shown}:" if shown else ""
    names = [f"{prefix}{printable(name)}" for name in list(forms)[:SHOWN]]
    return ", ".join(names) + (f" and {len(forms) - SHOWN} more" if len(forms) > SHOWN else "")
