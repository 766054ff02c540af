"""What a report shows of a key and of a line names nobody."""

from __future__ import annotations

import pytest

from traffic.key_labels import key_label, line_shape


@pytest.mark.parametrize(
    ("name", "key", "shown"),
    [
        ("203.0.113.7", None, "203.0.113.0/24"),
        ("203.0.113.7#12", "client", "203.0.113.0/24#12"),
        ("2001:db8:1:2:3::4", "remote_addr", "2001:db8:1::/48"),
        ("fe80::1%eth0", None, "fe80::/48"),
        ("203.0.0.0/16", "client/16", "203.0.0.0/16"),
        ("2001:db8:1:2::/64", "client/64", "2001:db8:1::/48"),
        ("203.0.113.7+/login", "client+endpoint", "203.0.113.0/24+/login"),
        ("/a\\+b+GET", "path+method", "/a\\+b+GET"),
        ("/search", "endpoint", "/search"),
        ("all", "none", "all"),
        ("-", "user", "-"),
    ],
)
def test_an_address_is_shown_as_its_network_and_an_endpoint_as_it_is(name: str, key: str | None, shown: str) -> None:
    assert key_label(name, key) == shown


@pytest.mark.parametrize(("name", "key"), [("sk-live-4711", "api_key"), ("alice", "user"), ("alice", None), ("a+b", "user")])
def test_any_other_key_is_a_short_hash_that_tells_keys_apart(name: str, key: str | None) -> None:
    label = key_label(name, key)
    assert label.startswith("key ")
    assert len(label) == len("key 1a2b…")
    assert name not in label
    assert label == key_label(name, key) != key_label(f"{name}x", key)


def test_a_key_that_is_not_of_the_fields_it_should_have_is_a_hash_as_a_whole() -> None:
    assert key_label("203.0.113.7", "client+user").startswith("key ")


def test_a_line_is_shown_by_its_shape() -> None:
    assert line_shape('203.0.113.7 élise "GET /a" 2001:db8::1\x1b') == '000.0.000.0 xxxxx "xxx /x" 0000:xx0::0\\x0x'
