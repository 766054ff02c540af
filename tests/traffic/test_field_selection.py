import pytest

from traffic.formats.base import FormatMismatchError
from traffic.formats.field_selection import FieldSelection, KeyPart, asked_fields, join_names, split_fields, split_key


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("client", KeyPart("client", "client")),
        ("client/24", KeyPart("client/24", "client", None, 24, None)),
        ("client/64", KeyPart("client/64", "client", None, None, 64)),
        ("client/24,64", KeyPart("client/24,64", "client", None, 24, 64)),
        ("xff", KeyPart("xff", "xff")),
        ("xff:first", KeyPart("xff:first", "xff", 0)),
        ("xff:last", KeyPart("xff:last", "xff", -1)),
        ("xff:2", KeyPart("xff:2", "xff", 1)),
        ("xff:-2", KeyPart("xff:-2", "xff", -2)),
        ("xff:-2/24", KeyPart("xff:-2/24", "xff", -2, 24, None)),
        ("user.id", KeyPart("user.id", "user.id")),
    ],
)
def test_a_part_of_a_key(text: str, part: KeyPart) -> None:
    assert split_key(text, ()) == (part,)


@pytest.mark.parametrize("field", ["a+b", "client:port", "client/24", "xff:last", "none"])
def test_a_field_of_just_that_name_goes_before_the_grammar(field: str) -> None:
    assert split_key(field, (field,)) == (KeyPart(field, field),)


def test_a_field_may_have_a_colon_before_a_prefix() -> None:
    assert split_key("client:port/24+c/d", ("client:port", "c/d")) == (
        KeyPart("client:port/24", "client:port", None, 24, None),
        KeyPart("c/d", "c/d"),
    )


def test_several_parts_are_joined_by_a_plus_and_none_is_no_part() -> None:
    assert [part.name for part in split_key("client + endpoint", ())] == ["client", "endpoint"]
    assert split_key("none", ()) == ()
    assert split_fields("date+time", ()) == ("date", "time")
    assert split_fields("date+time", ("date+time",)) == ("date+time",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("client/", "'' is no length of a prefix; write client/24 (IPv4), client/64 (IPv6) or client/24,64"),
        ("client/24,64,1", "'24,64,1' is no length of a prefix"),
        ("client/²4", "is no length of a prefix"),
        ("client/0", "a prefix has 1 to 32 bits (IPv4) or 1 to 128 (IPv6); write client/24,64"),
        ("client/129", "a prefix has 1 to 32 bits"),
        ("client/64,24", "a prefix has 1 to 32 bits"),
        ("xff:0", "'0' is no entry of a list; write xff:first, xff:last, xff:2 or xff:-2"),
        ("xff:middle", "'middle' is no entry of a list"),
        ("client+", "key with an empty part; write client+endpoint"),
        ("", "key with an empty part"),
    ],
)
def test_a_key_that_is_written_wrongly_is_told_how_it_is_written(text: str, message: str) -> None:
    with pytest.raises(FormatMismatchError) as caught:
        split_key(text, ())
    assert message in str(caught.value)


def test_joined_names_of_different_rows_stay_different() -> None:
    assert list(join_names([["a+b", "a"], ["c", "b+c"]], 2)) == ["a\\+b+c", "a+b\\+c"]
    assert list(join_names([], 2)) == ["all", "all"]


def test_what_a_selection_names_beside_the_known_fields() -> None:
    asked = FieldSelection("client/24+a", "b+c", None, None, "d*2+e", "f", "xff:last+a", "g")
    assert asked_fields(asked, ("b", "e")) == ("client", "a", "xff", "c", "f", "g", "d")
    assert asked_fields(FieldSelection("none", cost="d-e"), ("d-e",)) == ()
