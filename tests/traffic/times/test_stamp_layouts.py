"""The fast reading of stamps, by layouts, is that of one stamp after another, to the bit, and that of the calendar."""

import random
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest

from traffic.times.stamp_forms import FORMS, NUMBER, Order, match
from traffic.times.stamp_layouts import NAIVE, NOTHING, STAMP, Raw, read_text

# Of each: how a stamp of this form is written, and the seconds that the writing leaves out.
WRITTEN = (
    "%d/%b/%Y:%H:%M:%S {east}",
    "[%d/%b/%Y:%H:%M:%S.{milli} {east}]",
    "%d/%b/%Y:%H:%M:%S,{micro}",
    "%Y-%m-%dT%H:%M:%S{colon}",
    "%Y-%m-%dT%H:%M:%S.{go}Z",
    "%Y-%m-%d %H:%M:%S.{nano} UTC",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dt%H:%M:%S,{long}{east}",
    "%Y%m%dT%H%M%S{east}",
    "%Y%m%d-%H:%M:%S.{milli}",
    "%Y-%m-%d",
    "%Y/%m/%d %H:%M:%S",
    "%a, %d %b %Y %H:%M:%S GMT",
    "%A, %d-%b-%y %H:%M:%S EST",
    "%a %b %d %H:%M:%S.{micro} %Y",
    "%b %d, %Y @ %H:%M:%S.{milli}",
    "%B %-d, %Y, %-I:%M:%S %p",
    "%b %-d %H:%M:%S",
    "%-m/%-d/%Y %-H:%M",
    "%-m/%-d/%y %-I:%M:%S\u202f%p",
    "%d.%m.%Y %H:%M:%S",
    "%Y-%m-%d %H:%M:%S CEST",
    "{epoch}",
    "{epoch}.{milli}",
    "[{epoch}{micro}]",
    "-{epoch},{go}",
    "{epoch}{nano}",
    "1.{nano}E9",
)


def write(form: str, moment: datetime, rng: random.Random) -> str:
    east = rng.randrange(-14 * 4, 14 * 4 + 1) * 15
    sign, hours, minutes = "-" if east < 0 else "+", *divmod(abs(east), 60)
    parts = {
        "east": f"{sign}{hours:02}{minutes:02}",
        "colon": f"{sign}{hours:02}:{minutes:02}",
        "milli": f"{rng.randrange(1000):03}",
        "micro": f"{rng.randrange(10**6):06}",
        "nano": f"{rng.randrange(10**9):09}",
        "go": f"{rng.randrange(10**9):09}".rstrip("0") or "0",
        "long": str(rng.randrange(10**24)),
        "epoch": str(int(moment.timestamp())),
    }
    return moment.strftime(form).format(**parts)


def damage(text: str, rng: random.Random) -> str:
    place = rng.randrange(len(text) + 1)
    other = rng.choice("0123456789/:-+., TZaPmJunez[]\"'\u00e9\u202f")
    before, after = text[:place], text[place:]
    return rng.choice((before + other + after[1:], before + other + after, before[:-1] + after))


def stamps(seed: int, n: int = 1500) -> list[str | None]:
    """Write n stamps: runs of few forms, as in logs, some damaged, some twice, some missing."""
    rng = random.Random(seed)
    forms = rng.sample(WRITTEN, 4)
    texts: list[str | None] = []
    for _ in range(n):
        moment = datetime(1990, 1, 1) + timedelta(seconds=rng.randrange(110 * 365 * 86400))
        text = write(rng.choice(forms), moment, rng)
        texts.append(damage(text, rng) if rng.random() < 0.3 else text)
        if rng.random() < 0.02:
            texts += [None, texts[-1], "", "-"]
    return texts


def told(raw: Raw) -> list[tuple[object, ...]]:
    """List what was read of each stamp; what a failed one leaves behind is nobody's."""
    zone = [
        str(raw.zones[east - NAIVE - 1]) if NAIVE < east <= NAIVE + len(raw.zones) else east for east in raw.east.tolist()
    ]
    columns = zip(raw.kind, raw.whole, raw.fraction, raw.grain, zone, raw.leap, raw.undecided, strict=True)
    return [(row[0],) if row[0] == NOTHING else row for row in columns]


@pytest.mark.parametrize("seed", range(24))
def test_stamps_are_read_by_layouts_as_one_after_another(seed: int) -> None:
    texts = pa.array(stamps(seed), pa.string())[3:]
    order: Order = ("mdy", "dmy", "ymd")[seed % 3]
    fast, slow = (read_text(texts, order, fast) for fast in (True, False))
    differ = [(text, a, b) for text, a, b in zip(texts.to_pylist(), told(fast), told(slow), strict=True) if a != b]
    assert not differ[:3]
    assert fast.forms == slow.forms
    assert np.count_nonzero(fast.kind != NOTHING) > 400


@pytest.mark.parametrize("fast", [True, False])
def test_stamps_agree_with_the_calendar(fast: bool) -> None:
    rng = random.Random(7)
    microseconds = 109 * 365 * 86400 * 10**6
    moments = [datetime(1990, 1, 2, tzinfo=UTC) + timedelta(microseconds=rng.randrange(microseconds)) for _ in range(500)]
    written = [m.astimezone(timezone(timedelta(minutes=rng.randrange(-840, 841)))).isoformat() for m in moments]
    raw = read_text(pa.array(written), "mdy", fast)
    assert (raw.kind == STAMP).all()
    assert (raw.whole - raw.east).tolist() == [int(m.timestamp()) for m in moments]
    np.testing.assert_array_equal(raw.fraction, [m.microsecond / 10**6 for m in moments])


def test_each_day_of_the_calendar_is_there_and_no_other() -> None:
    dates = [f"{year}-{month:02}-{day:02}" for year in range(1988, 2102) for month in range(14) for day in range(33)]
    raw = read_text(pa.array(dates), "mdy")
    first, last = np.datetime64("1990-01-01"), np.datetime64("2099-12-31")
    days = np.arange(first, last + 1)
    assert [date for date, kind in zip(dates, raw.kind, strict=True) if kind == STAMP] == [str(day) for day in days]
    np.testing.assert_array_equal(raw.whole[raw.kind == STAMP], days.astype("datetime64[s]").astype(np.int64))


@pytest.mark.parametrize("form", [*FORMS, NUMBER], ids=lambda form: form.example)
def test_the_example_of_a_form_has_that_form(form: object) -> None:
    found = match(form.example.encode())  # type: ignore[attr-defined]
    assert found is not None
    assert found[0] is form


def test_many_kinds_of_stamps_and_much_that_is_none_are_read_in_bounded_time() -> None:
    # Each text has a layout of its own, or none: beyond the first dozens they are read singly.
    texts = [f"{'x' * (i % 90)}{i}" for i in range(5000)] + [f"10/May/2024:06:25:{i:02} +0000" for i in range(60)]
    raw = read_text(pa.array(texts), "mdy")
    assert np.count_nonzero(raw.kind == STAMP) == 60
