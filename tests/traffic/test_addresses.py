import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traffic.addresses import address, client_names, entries, has_ports, is_client, is_private, names_behind_proxy, shorten


def name(text: str, **options: object) -> str:
    (found,) = client_names([text], **options)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" 203.0.113.7 ", "203.0.113.7"),
        ("203.0.113.7:567", "203.0.113.7"),
        ("203.0.113.7/32", "203.0.113.7"),
        ("ipv4:203.0.113.7:567", "203.0.113.7"),
        ("(203.0.113.7)", "203.0.113.7"),
        ("[::1]:80", "::1"),
        ("[2001:DB8::1]", "2001:db8::1"),
        ("2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"),
        ("2001:db8::1:50718", "2001:db8::1"),
        ("2001:db8:4538:1:bcf4:5264:e01c:f215:50718", "2001:db8:4538:1:bcf4:5264:e01c:f215"),
        ("2001:db8:4538:1:bcf4:5264:e01c:f215:80", "2001:db8:4538:1:bcf4:5264:e01c:f215"),
        ("2001:db8::1:8080", "2001:db8::1:8080"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::FFFF:cb00:7107", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:80", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_an_address_has_one_spelling(text: str, expected: str) -> None:
    assert address(text) == name(text) == expected
    assert is_client(text)


@pytest.mark.parametrize(
    "text",
    [
        *("host.example.org", "host:80", "a", "1.2.3", "1.2.3.256", "01.2.3.4", "1.2.3.4:99999", "12:34", "a, b", "x=1,2"),
        *("Mozilla/5.0 (X11, Linux)", "sk_live_1", "::ffff:1.2.3.4.5", "[::1", "é", "\x00", "1" * 5000),
    ],
)
def test_what_is_no_address_stays_as_it_is(text: str) -> None:
    assert address(text) is None
    assert name(text, prefix4=24, prefix6=64) == text
    assert not is_client(text)


@pytest.mark.parametrize("text", ["", "-", " - ", "unknown", "Unknown", "null", "unknown, -", ", ,"])
def test_nobody_is_a_dash(text: str) -> None:
    assert name(text) == "-"


LIST = "203.0.113.7, 198.51.100.9:80 , 10.0.0.5"


@pytest.mark.parametrize(
    ("pick", "expected"),
    [
        *((0, "203.0.113.7"), (1, "198.51.100.9"), (2, "10.0.0.5"), (7, "10.0.0.5")),
        *((-1, "10.0.0.5"), (-2, "198.51.100.9"), (-9, "203.0.113.7")),
    ],
)
def test_an_entry_of_a_list_is_picked_the_nearest_where_it_is_shorter(pick: int, expected: str) -> None:
    assert name(LIST, pick=pick) == expected


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("unknown, 203.0.113.7", "203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:33453,+172.16.0.1:49770", "203.0.113.7", "172.16.0.1"),
        ("203.0.113.7,%2010.0.0.1", "203.0.113.7", "10.0.0.1"),
        ('["203.0.113.7, 10.0.0.2"]', "203.0.113.7", "10.0.0.2"),
        ('["203.0.113.7","10.0.0.2"]', "203.0.113.7", "10.0.0.2"),
        ('for="[2001:db8::1]:80";proto=https;by=203.0.113.43, for=10.0.0.1', "2001:db8::1", "10.0.0.1"),
        ("proto=http;For=203.0.113.7", "203.0.113.7", "203.0.113.7"),
        ("for=_hidden, for=unknown", "_hidden", "_hidden"),
        ("2001:db8::1,::ffff:10.0.0.1", "2001:db8::1", "10.0.0.1"),
    ],
)
def test_lists_as_servers_write_them(text: str, first: str, last: str) -> None:
    assert (name(text), name(text, pick=-1)) == (first, last)


def test_a_place_counts_also_the_entries_that_are_unknown() -> None:
    assert name("203.0.113.7, unknown, 10.0.0.1", pick=-2) == "-"


def test_a_port_behind_an_ipv6_address_is_one_where_all_addresses_have_ports() -> None:
    assert has_ports(["203.0.113.7:567", "2001:db8::1:8080"])
    assert has_ports(["2001:db8::1:50718", "2001:db8::1:8080"])
    assert not has_ports(["203.0.113.7", "2001:db8::1:8080"])
    assert not has_ports(["2001:db8::1:8080"])
    assert name("2001:db8::1:8080", ports=True) == "2001:db8::1"


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("203.0.113.7", {"prefix4": 24}, "203.0.113.0/24"),
        ("203.0.113.7:80", {"prefix4": 20}, "203.0.112.0/20"),
        ("2001:db8:1:2:3::4", {"prefix6": 64}, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3::4", {"prefix4": 24}, "2001:db8:1:2:3::4"),
        ("203.0.113.7", {"prefix6": 64}, "203.0.113.7"),
        ("::ffff:203.0.113.7", {"prefix4": 24, "prefix6": 64}, "203.0.113.0/24"),
        ("-", {"prefix4": 24, "prefix6": 64}, "-"),
    ],
)
def test_a_prefix_makes_the_name_of_a_network(text: str, options: dict[str, object], expected: str) -> None:
    assert name(text, **options) == expected


@given(st.ip_addresses(), st.integers(1, 32), st.integers(1, 128))
def test_the_network_is_the_standard_library_s(found: ipaddress._BaseAddress, bits4: int, bits6: int) -> None:
    bits = bits4 if found.version == 4 else bits6
    shown = shorten(str(found), bits4, bits6)
    assert ipaddress.ip_network(shown) == ipaddress.ip_network(f"{found}/{bits}", strict=False)
    assert shown.endswith(f"/{bits}")


@given(st.ip_addresses(v=6), st.integers(0, 65535))
def test_all_spellings_of_an_address_have_one_name(found: ipaddress.IPv6Address, port: int) -> None:
    expected = name(str(found))
    for text in (found.exploded, found.exploded.upper(), f"[{found}]:{port}", f"{found.exploded}:{port}"):
        assert name(text) == expected


@given(st.text(max_size=40))
def test_every_text_has_a_name_of_at_least_one_character(text: str) -> None:
    assert name(text, prefix4=24, prefix6=48)
    assert all(entries(text)) or not entries(text)


def test_addresses_are_shortened_for_display() -> None:
    assert list(map(shorten, ["203.0.113.7", "2001:db8:1:2::3", "alice", "203.0.113.0/24"])) == [
        "203.0.113.0/24",
        "2001:db8:1::/48",
        "alice",
        "203.0.113.0/24",
    ]


@pytest.mark.parametrize(
    ("text", "private"),
    [
        *(("10.0.0.5", True), ("172.16.0.1", True), ("172.32.0.1", False), ("192.168.1.1", True), ("100.64.0.1", True)),
        *(("127.0.0.1", True), ("203.0.113.7", False), ("::1", True), ("fd00::1", True), ("2001:db8::1", False)),
    ],
)
def test_private_addresses(text: str, private: bool) -> None:
    assert is_private(text) is private


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("10.0.0.5 203.0.113.7, 10.0.0.1", "203.0.113.7"),
        ("10.0.0.5:80 203.0.113.7", "203.0.113.7"),
        ("10.0.0.5 -", "10.0.0.5"),
        ("10.0.0.5 unknown", "10.0.0.5"),
        ("10.0.0.5", "10.0.0.5"),
        ("- 203.0.113.7", "203.0.113.7"),
        ("- -", "-"),
        ("198.51.100.9 203.0.113.7", "198.51.100.9"),
        ("198.51.100.9, 10.0.0.1 203.0.113.7", "198.51.100.9"),
        ("host.example.org 203.0.113.7", "host.example.org"),
    ],
)
def test_a_private_address_is_a_proxy_where_another_is_forwarded(value: str, expected: str) -> None:
    assert names_behind_proxy([value]) == [expected]


def test_the_client_behind_a_proxy_is_cut_to_its_network() -> None:
    assert names_behind_proxy(["10.0.0.5 203.0.113.7"], prefix4=24) == ["203.0.113.0/24"]
