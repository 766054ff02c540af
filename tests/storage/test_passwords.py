"""A password, whatever is in it and wherever it stands in a URL, is in no error, repr or log."""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, unquote

import pytest
from examples import examples
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ratesim import Limit
from ratesim.errors import RatesimError
from ratesim.server_url import split_url
from ratesim.servers import Server
from ratesim.storage import (
    PostgresStorage,
    PostgresStorageConfig,
    RedisStorage,
    RedisStorageConfig,
    StorageURL,
    open_storage,
)
from ratesim.storage.urls import localhost_url

# No letter of it is in the text of an error that tells nothing of the password.
LETTERS = "QXZJKVWÄÖß🔑ΩЖ"
SPECIAL = "/@:?#%& '\"\\=[]<>+;,!$~|{}"
PASSWORDS = st.text(st.sampled_from(LETTERS + SPECIAL), min_size=6, max_size=24).filter(
    lambda text: sum(letter in LETTERS for letter in text) >= 4
)
FORMS = [
    "redis://:{}@127.0.0.1:{port}/0",
    "redis://user:{}@127.0.0.1:{port}/0?retries=0",
    "redis://{}@127.0.0.1:{port}/0",
    "rediss://:{}@127.0.0.1:{port}/0",
    "valkey://:{}@127.0.0.1:{port}",
    "unix://:{}@/no/such.sock",
    "unix:///no/such.sock?password={}",
    "redis://127.0.0.1:{port}/0?password={}",
    "rediss://127.0.0.1:{port}/0?ssl_password={}",
    "hybrid+redis://:{}@127.0.0.1:{port}/0",
    "redis+cluster://:{}@127.0.0.1:{port},localhost:{port}",
    "rediss+cluster://user:{}@127.0.0.1:{port}",
    "redis://:{}@127.0.0.1:{port},localhost:{port}?cluster_mode=true",
    "redis+sentinel://user:{}@127.0.0.1:{port},localhost:{port}/service/0",
    "redis+sentinel://127.0.0.1:{port}/service?sentinel_password={}",
    "hybrid+valkeys+sentinel://127.0.0.1:{port}/service?sentinel_username=me&sentinel_password={}",
    "hybrid+postgresql://user:{}@127.0.0.1:{port}/db",
    "postgresql://user:{}@127.0.0.1:{port}/db",
    "postgresql://user:{}@127.0.0.1:{port},localhost:{port}/db?retries=0",
    "postgresql://127.0.0.1:{port}/db?user=me&password={}",
    "postgresql://127.0.0.1:{port}/db?sslpassword={}",
    "host=127.0.0.1 port={port} user=me password={} dbname=db",
    "host=127.0.0.1 port={port} user=me password='{}'",
    # wrong in another place
    "redis://:{}@127.0.0.1:bad/0",
    "redis://:{}@127.0.0.1:{port}/database",
    "redis+cluster://:{}@127.0.0.1:{port},/0",
    "redis+cluster://:{}@127.0.0.1:{port}/5",
    "redis+sentinel://:{}@127.0.0.1:{port}",
    "redis+sentinel://127.0.0.1:{port}?sentinel_password={}",
    "redis+cluster://127.0.0.1:{port}?sentinel_password={}",
    "redis://:{}@127.0.0.1:{port}/0?pool_sise=3",
    "redis://:{}@127.0.0.1:{port}/0?pool_size=many",
    "redis://127.0.0.1:{port}/0?redis://:{}@host",
    "redis://127.0.0.1:{port}/0?key_prefix=redis://:{}@host{{",
    "redis://127.0.0.1:{port}/0?pool_size=redis://u:{}@host",
    "mongo://user:{}@127.0.0.1/0",
    "memory://:{}@host",
    "memory://?eviction_policy=redis://:{}@host",
    "postgresql://user:{}@127.0.0.1:99999/db",
    "postgresql://user:{}@127.0.0.1:{port}/db?unlogged=maybe",
    "postgresql://user:{}@127.0.0.1:{port}/db?nope=1",
    "postgres:user:{}@127.0.0.1",
    "//user:{}@127.0.0.1",
]


def pieces(password: str) -> set[str]:
    """Each piece of four letters of the password in each spelling, if it has letters that only the password has."""
    spelled = {password, quote(password), quote(password, safe=""), unquote(password), repr(password)[1:-1]}
    found = {text[i : i + 4] for text in spelled for i in range(len(text) - 3)}
    return {piece for piece in found if any(letter in LETTERS or letter == "%" for letter in piece) and piece != "%20%"}


@contextmanager
def everything_logged() -> Iterator[list[str]]:
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    collector, root = Collector(), logging.getLogger()
    level = root.level
    root.addHandler(collector)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.removeHandler(collector)
        root.setLevel(level)


@pytest.fixture(scope="module")
def closed_port() -> Iterator[int]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]


async def use(storage: Any, seen: list[str]) -> None:
    seen.append(repr(storage))
    seen.append(repr(getattr(storage, "config", "")))
    for call in (
        storage.open,
        lambda: storage.acquire("k", Limit(5, 60)),
        storage.health_check,
        storage.get_stats,
        storage.close,
    ):
        try:
            seen.append(repr(await call()))
        except Exception as error:  # noqa: BLE001 - which errors a verb raises is tested elsewhere
            seen += [str(error), repr(error), *traceback.format_exception(error)]


def told(url: str) -> list[str]:
    """All that is told of a URL by what takes one, and by a storage of it that fails."""
    seen: list[str] = []
    config = PostgresStorageConfig if "postgres" in url or "host=" in url else RedisStorageConfig
    storage_of = PostgresStorage if config is PostgresStorageConfig else RedisStorage
    makers = (
        StorageURL.parse,
        localhost_url,
        lambda url: open_storage(_fast(url)),
        lambda url: storage_of(config(url=url, connection_timeout=0.2, command_timeout=0.2, retries=0)),
    )
    with everything_logged() as lines:
        for make in makers:
            try:
                made = make(url)
            except RatesimError as error:
                seen += [str(error), repr(error), *traceback.format_exception(error)]
                continue
            seen.append(repr(made))
            if hasattr(made, "acquire"):
                asyncio.run(use(made, seen))
    return seen + lines


def _fast(url: str) -> str:
    quick = "connection_timeout=0.2&command_timeout=0.2&retries=0" + "&max_wait=0.2" * url.startswith("hybrid")
    return f"{url.replace('?retries=0', '')}{'&' if '?' in url.replace('?retries=0', '') else '?'}{quick}"


@settings(max_examples=examples(60), suppress_health_check=list(HealthCheck))
@given(st.sampled_from(FORMS), PASSWORDS, st.booleans())
@example("redis://:{}@h", "aGVs/d29=QXZJ", False)
@example("postgresql://u:{}@127.0.0.1:{port}/db", "QX ZJKV", False)
@example("postgresql://u:{}@127.0.0.1:{port}/db", "QX@ZJKV", False)
@example("host=127.0.0.1 port={port} password='{}'", "QX'ZJKV", False)
def test_a_password_is_told_nowhere(closed_port: int, form: str, password: str, encoded: bool) -> None:
    text = quote(password, safe="") if encoded else password
    if "password='{}'" in form:
        text = text.replace("\\", "\\\\").replace("'", "\\'")
    for line in told(form.format(text, port=closed_port)):
        shown = line.replace("***", "")
        assert not [piece for piece in pieces(password) if piece in shown], line


@settings(max_examples=examples(20), suppress_health_check=list(HealthCheck))
@given(PASSWORDS)
def test_a_wrong_password_is_told_nowhere(valkey_server: Server, password: str) -> None:
    for text in (password, quote(password, safe="")):
        if "@" not in text and not set("/?#") & set(text):
            url = f"redis://:{text}@{split_url(valkey_server.url).host}/0"
            lines = told(url)
            assert any("password" in line for line in lines)
            for line in lines:
                assert not [piece for piece in pieces(password) if piece in line.replace("***", "")], line


@pytest.mark.parametrize("password", ["a/b?c#d@e:f%20 g", "pa ss", "%", "ü🔑", "a+b&c=d", "'\"\\"])
def test_a_password_with_special_characters_is_understood(password: str) -> None:
    for scheme in ("redis", "postgresql", "unix"):
        place = "" if scheme == "unix" else "h:1"
        url = StorageURL.parse(f"{scheme}://user:{quote(password, safe='')}@{place}/1").config.url
        assert split_url(url).password == password
        assert split_url(RedisStorageConfig(url=url).url if scheme != "postgresql" else url).password == password
    if not set("/?#%") & set(password):
        assert split_url(StorageURL.parse(f"postgresql://u:{password}@h/db").config.url).password == password
