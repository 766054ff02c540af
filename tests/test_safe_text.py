from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratesim.safe_text import passwords_in, redact, shorten_identifier, shorten_repr

SPECIAL = "/@:?#%& '\"\\=[]<>é🔑"
PASSWORDS = st.text(st.sampled_from("abcdefgh0123456789" + SPECIAL), min_size=6, max_size=30)


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:hush@host/db",
        "postgresql://me:hu/hush@host/db",
        "postgresql://me:hu hush@host/db",
        "hybrid+redis://:hush@host/0",
        "redis://hush@host/0",
        "postgres//me:hush@host",
        "no usable server at redis://:a@hush?#@host/0",
        "host=a password=hush user=b",
        "host=a password='a hush' user=b",
        r"host=a password='it\'s hush' user=b",
        "host=a password = hush",
        "host=a PASSWORD=hush",
        "postgresql://host/db?user=x&password=hush&port=1",
        "postgresql://host/db?user=x&sslpassword=a hush&port=1",
        "redis://host/0?password=a hush",
        "refused: redis://me:hush@host/0 and postgresql://you:hush@other/db",
    ],
)
def test_passwords_are_starred_out(text: str) -> None:
    assert "hush" not in redact(text)
    assert "***" in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "redis://host:6379/0?pool_size=3",
        "postgresql://app@host/db",
        'password authentication failed for user "app"',
        "key 'alice@example.com': refused at 12:30",
    ],
)
def test_text_without_a_password_stays(text: str) -> None:
    assert redact(text) == text


@given(PASSWORDS)
def test_no_piece_of_a_known_password_is_left_in_a_message(password: str) -> None:
    url = f"postgresql://u:{password}@h/db"
    for spelled in (password, quote(password, safe=""), password.partition("@")[2], password.rpartition("/")[2]):
        shown = redact(f"could not translate host name {spelled} to an address", url)
        if len(spelled) >= 4:
            assert f"name {spelled} to" not in shown


@given(
    PASSWORDS, st.sampled_from(["redis://:{}@h/0", "redis://u:{}@h/0", "postgresql://u:{}@h/db?x=1", "hybrid+redis://:{}@h"])
)
def test_a_url_loses_its_password_whatever_is_in_it(password: str, form: str) -> None:
    shown = redact(form.format(password))
    assert not any(password[i : i + 4] in shown.replace("***", "") for i in range(len(password) - 3))


@given(PASSWORDS)
def test_passwords_of_a_connection_string_are_known(password: str) -> None:
    escaped = password.replace("\\", "\\\\").replace("'", "\\'")
    assert escaped.strip("'\"") in passwords_in(f"host=h password='{escaped}' dbname=d") or len(escaped.strip("'\"")) < 4


@pytest.mark.parametrize(
    "form", ["u:{}@h:6379", "://u:{}@h", "redis:/u:{}@h", "redis:u:{}@h", "host=h password={} user=u", "{}@h"]
)
@pytest.mark.parametrize("password", ["hush hush", "hush/hush hush", "hush@hush hush", "hush:hush\thush"])
def test_what_was_pasted_for_a_url_loses_its_password_though_it_is_none(form: str, password: str) -> None:
    text = form.format(password)
    assert "hush" not in redact(text, text)
    assert "hush" not in redact('missing "=" after "hush" in the connection string', text)


@given(
    st.one_of(st.text(), st.binary(), st.integers(), st.floats(), st.lists(st.text()), st.just(Hostile()), st.just(10**9999))
)
def test_a_repr_is_short_and_prints(value: object) -> None:
    for most in (80, 200):
        shown = shorten_repr(value, most)
        assert 0 < len(shown) <= most
        assert shown.isprintable()


def test_a_short_value_is_its_repr_and_a_long_one_shows_both_ends() -> None:
    assert shorten_repr("a b") == "'a b'"
    assert shorten_repr(5) == "5"
    shown = shorten_identifier("begin" + "x" * 10**6 + "end")
    assert shown.startswith("'begin")
    assert shown.endswith("end'")


def test_a_word_that_is_no_utf_8_is_searched_for_passwords_as_well() -> None:
    assert redact("u:\udcb5secret@h", "u:\udcb5secret@h") == "u:***@h"
