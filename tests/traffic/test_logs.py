import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import traffic
from traffic import LogError, Trace, read_log
from traffic.convert import convert_log
from traffic.formats.collector import MAX_ENDPOINTS, Numbers
from traffic.formats.field_selection import FieldSelection
from traffic.provenance import printable
from traffic.reading import Reading

REAL = Path(traffic.__file__).parent / "data" / "apache_access_10k.log.gz"
AGENT = ' "-" "curl/8.0"'


def line(
    client: str = "10.0.0.1",
    user: str = "-",
    stamp: str = "17/May/2015:10:05:03 +0000",
    request: str = "GET /a/b?c=d HTTP/1.1",
    size: str = "123",
    tail: str = AGENT,
) -> str:
    return f'{client} - {user} [{stamp}] "{request}" 200 {size}{tail}'


@pytest.fixture
def log(tmp_path: Path) -> Callable[..., Path]:
    def write(*lines: str | bytes, name: str = "access.log") -> Path:
        path = tmp_path / name
        path.write_bytes(b"".join((x if isinstance(x, bytes) else x.encode()) + b"\n" for x in lines))
        return path

    return write


def names(trace: Trace) -> list[str]:
    return [trace.keys[k] for k in trace.key]


def endpoints(trace: Trace) -> list[str]:
    return [trace.endpoints[e] for e in trace.endpoint]


# The real log. The counts were taken with awk, sort and uniq from the inflated file, not with this reader.


@pytest.fixture(scope="module")
def real() -> Trace:
    return read_log(REAL)


def test_the_real_log_has_9999_requests_of_1753_clients(real: Trace) -> None:
    assert len(real) == 9999
    assert len(real.keys) == len(np.unique(real.key)) == 1753
    assert real.time[0] == 1431857100  # 17 May 2015 10:05:00 UTC
    assert real.duration == 298859
    busiest = real.keys[np.bincount(real.key).argmax()]
    assert (busiest, np.bincount(real.key).max()) == ("66.249.73.135", 482)


def test_the_real_log_has_one_unterminated_line_which_is_counted_and_kept(real: Trace) -> None:
    origin = real.provenance
    assert (origin.lines, origin.parsed, origin.skipped) == (10_000, 9999, 1)
    assert len(origin.examples) == 1
    assert origin.examples[0].startswith('46.118.127.106 - - [20/May/2015:12:05:17 +0000] "GET /scripts/grok-py')
    assert origin.source == str(REAL)


def test_the_real_log_is_out_of_order_and_says_so(real: Trace) -> None:
    assert real.provenance.notes == ("time out of order: 9447 rows sorted",)
    assert (np.diff(real.time) >= 0).all()


def test_the_real_log_has_1861_pairs_of_client_and_agent_and_50_endpoints(real: Trace) -> None:
    assert len(np.unique(real.session)) == 1861
    assert len(real.endpoints) == 50
    assert np.bincount(real.endpoint).max() == 2305
    assert real.endpoints[np.bincount(real.endpoint).argmax()] == "GET /presentations"


def test_the_real_log_has_at_most_9_requests_in_a_second_and_136_in_a_clock_hour(real: Trace) -> None:
    assert real.summary()["peak_rate"] == 9
    assert np.unique(real.time // 3600, return_counts=True)[1].max() == 136


def test_the_real_log_keyed_by_endpoint_has_1368_paths() -> None:
    trace = read_log(REAL, key="endpoint")
    counts = np.bincount(trace.key)
    assert len(trace.keys) == 1368
    assert (trace.keys[counts.argmax()], counts.max()) == ("/favicon.ico", 807)


def test_the_real_log_reads_alike_plain_and_in_zstd(real: Trace, tmp_path: Path) -> None:
    data = gzip.decompress(REAL.read_bytes())
    (tmp_path / "plain").write_bytes(data)
    (tmp_path / "a.zst").write_bytes(zstandard.ZstdCompressor().compress(data))
    assert read_log(tmp_path / "plain") == read_log(tmp_path / "a.zst") == real


# What a line says


def test_a_combined_line_becomes_a_request(log: Callable[..., Path]) -> None:
    trace = read_log(log(line()))
    assert trace.time.tolist() == [1431857103.0]
    assert names(trace) == ["10.0.0.1"]
    assert endpoints(trace) == ["GET /a"]
    assert trace.cost.tolist() == [1.0]


@pytest.mark.parametrize("tail", ["", " ", "\r", " 0.123 17"])
def test_a_common_line_becomes_a_request(log: Callable[..., Path], tail: str) -> None:
    trace = read_log(log(line(tail=tail), line(client="::1", tail=tail)))
    assert names(trace) == ["10.0.0.1", "::1"]
    assert trace.session.tolist() == trace.key.tolist()
    assert trace.provenance.skipped == 0


@pytest.mark.parametrize("tail", [AGENT + "\r", AGENT + ' "10.1.1.1" 0.003', ' "-" "say \\"hi\\" now"', ' "" ""'])
def test_what_servers_append_or_escape_does_not_stop_a_combined_line(log: Callable[..., Path], tail: str) -> None:
    assert read_log(log(line(tail=tail))).provenance.skipped == 0


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [
        ("01/Jan/2000:00:00:00 +0000", 946684800),
        ("17/May/2015:10:05:03 +0200", 1431857103 - 7200),
        ("17/May/2015:10:05:03 -0730", 1431857103 + 27000),
        ("29/Feb/2024:23:59:59 +0000", 1709251199),
        ("31/Dec/2016:23:59:60 +0000", 1483228800),
    ],
)
def test_stamps_honor_their_offset(log: Callable[..., Path], stamp: str, seconds: float) -> None:
    assert read_log(log(line(stamp=stamp))).time.tolist() == [seconds]


@pytest.mark.parametrize(
    "bad",
    [
        "30/Feb/2015:10:05:03 +0000",
        "00/May/2015:10:05:03 +0000",
        "17/Mai/2015:10:05:03 +0000",
        "17/May/2015:24:05:03 +0000",
        "17/May/2015:10:60:03 +0000",
        "17/May/2015:10:05:61 +0000",
        "17/May/0000:10:05:03 +0000",
        "17/May/2015:10:05:03 +0090",
        "17/May/2150:10:05:03 +0000",
    ],
)
def test_a_line_without_a_real_time_is_skipped_and_shown(log: Callable[..., Path], bad: str) -> None:
    trace = read_log(log(line(), line(stamp=bad), line(client="b")))
    assert names(trace) == ["10.0.0.1", "b"]
    assert trace.provenance.examples == (line(stamp=bad),)


def test_lines_out_of_order_are_sorted_and_said(log: Callable[..., Path]) -> None:
    trace = read_log(log(*(line(c, stamp=f"17/May/2015:10:05:0{s} +0000") for c, s in zip("abcd", "3120", strict=True))))
    assert names(trace) == ["d", "b", "c", "a"]
    assert trace.provenance.notes == ("time out of order: 3 rows sorted",)


@pytest.mark.parametrize("client", ["2001:db8::1", "host.example.com", "203.0.113.7"])
def test_any_client_name_is_a_key(log: Callable[..., Path], client: str) -> None:
    assert names(read_log(log(line(client)))) == [client]


def test_a_session_is_a_pair_of_client_and_user_agent(log: Callable[..., Path]) -> None:
    visits = [("a", "Firefox"), ("a", "Chrome"), ("b", "Firefox"), ("a", "Firefox")]
    trace = read_log(log(*(line(client, tail=f' "-" "{agent}"') for client, agent in visits)))
    one, two, three, four = trace.session.tolist()
    assert one == four
    assert len({one, two, three}) == 3
    assert trace.session.max() == 2


def test_user_agents_with_escaped_quotes_are_told_apart(log: Callable[..., Path]) -> None:
    agents = ['say \\"a\\" now', 'say \\"b\\" now', "say \\\\", 'say \\"a\\" now']
    trace = read_log(log(*(line(tail=f' "-" "{agent}"') for agent in agents)))
    assert trace.provenance.skipped == 0
    one, two, three, four = trace.session.tolist()
    assert one == four
    assert len({one, two, three}) == 3


@pytest.mark.parametrize(
    ("request_", "endpoint", "path"),
    [
        ("GET / HTTP/1.1", "GET /", "/"),
        ("GET /a HTTP/1.1", "GET /a", "/a"),
        ("GET /a/b/c?x=1 HTTP/1.1", "GET /a", "/a/b/c"),
        ("POST /a?x=/b HTTP/2.0", "POST /a", "/a"),
        ("GET /a b HTTP/1.1", "GET /a", "/a"),
        ('GET /a\\"b HTTP/1.1', "GET /a", '/a\\"b'),
        ("GET /a", "GET /a", "/a"),
        ("OPTIONS * HTTP/1.0", "other", "*"),
        ("GET http://x.org/a HTTP/1.0", "GET /a", "/a"),
        ("CONNECT x.org:443 HTTP/1.1", "other", "x.org:443"),
        ("-", "other", "-"),
        ("", "other", "-"),
        ("\\x16\\x03\\x01", "other", "-"),
        ("get /a HTTP/1.1", "other", "-"),
    ],
)
def test_endpoints_and_paths_of_all_kinds_of_requests(
    log: Callable[..., Path], request_: str, endpoint: str, path: str
) -> None:
    file = log(line(), line(request=request_))
    assert endpoints(read_log(file))[1] == endpoint
    assert names(read_log(file, key="endpoint"))[1] == path


def test_after_256_endpoints_every_further_one_is_other(log: Callable[..., Path]) -> None:
    paths = [*range(300), 0, 299]
    trace = read_log(log(*(line(request=f"GET /{i} HTTP/1.1") for i in paths)))
    assert len(trace.endpoints) == MAX_ENDPOINTS + 1
    assert trace.endpoints[-1] == "other"
    assert endpoints(trace) == [f"GET /{i}" if i < 256 else "other" for i in paths]


def test_names_beyond_the_limit_are_not_remembered() -> None:
    few = Numbers(2)
    assert [few[name] for name in "abcdab"] == [0, 1, 2, 2, 0, 1]
    assert list(few) == ["a", "b", "other"]


def test_the_key_may_be_the_user(log: Callable[..., Path]) -> None:
    trace = read_log(log(line(user="alice"), line(user="-"), line(user="bob")), key="user")
    assert names(trace) == ["alice", "-", "bob"]


def test_requests_without_a_key_share_one_limit_which_is_said(log: Callable[..., Path], tmp_path: Path) -> None:
    keys = '"ip": "203.0.113.7"', '"client_ip": "203.0.113.8"', '"ip": null'
    renamed = log(*(f'{{"time": {i}, "status": 200, {key}}}' for i, key in enumerate(keys)))
    said = "the key: 2 requests (66.7 %) have nothing in its field, and share one limit, as the key '-'"
    assert said in read_log(renamed, key="ip").provenance.notes
    assert said in convert_log(renamed, tmp_path / "a.parquet", Reading(FieldSelection(key="ip"))).notes
    assert not any(note.startswith("the key: ") for note in read_log(log(line(user="alice")), key="user").provenance.notes)


VISIT = line("10.0.0.1", "alice", request="POST /a/b?c=d HTTP/1.1", tail=' "http://x.org/" "curl/8.0"')


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("client", "10.0.0.1"),
        ("user", "alice"),
        ("method", "POST"),
        ("endpoint", "/a/b"),
        ("status", "200"),
        ("referrer", "http://x.org/"),
        ("agent", "curl/8.0"),
        ("session", "10.0.0.1 curl/8.0"),
        ("client+endpoint", "10.0.0.1+/a/b"),
        ("method + endpoint + user", "POST+/a/b+alice"),
    ],
)
def test_the_key_may_be_any_field_and_several_joined(log: Callable[..., Path], key: str, name: str) -> None:
    assert names(read_log(log(VISIT), key=key)) == [name]


def test_without_a_key_all_requests_are_one(log: Callable[..., Path], tmp_path: Path) -> None:
    trace = read_log(log(line("a"), line("b"), VISIT), key="none")
    assert (names(trace), len(np.unique(trace.session))) == (["all"] * 3, 3)
    rows = tmp_path / "rows.csv"
    rows.write_text("time,user\n1,a\n2,b\n")
    assert names(read_log(rows, key="none")) == ["all"] * 2
    rows.write_text("time,none\n1,a\n2,b\n")
    assert names(read_log(rows, key="none")) == ["a", "b"], "a column of that name comes first"


def test_the_key_leaves_sessions_and_endpoints_as_they_are(log: Callable[..., Path]) -> None:
    path = log(VISIT, line("b"), line("c"), VISIT)
    plain = read_log(path)
    for key in ("method", "session", "client+endpoint", "status"):
        trace = read_log(path, key=key)
        assert (trace.session.tolist(), endpoints(trace)) == (plain.session.tolist(), endpoints(plain))


def test_a_common_log_has_no_agent_and_its_session_is_the_client(log: Callable[..., Path]) -> None:
    path = log(line(tail=""))
    assert names(read_log(path, key="session")) == ["10.0.0.1"]
    with pytest.raises(LogError, match="has no field 'agent' for the key"):
        read_log(path, key="client+agent")


def test_joined_keys_of_different_requests_are_different(log: Callable[..., Path]) -> None:
    pairs = [("a", "/b+c"), ("a+/b", "c"), ("a", "/b\\+c"), ("a\\", "/b")]
    trace = read_log(log(*(line(user=user, request=f"GET {path} HTTP/1.1") for user, path in pairs)), key="user+endpoint")
    assert len(set(names(trace))) == 4


def test_a_request_may_cost_what_it_answered(log: Callable[..., Path]) -> None:
    path = log(line(size="100"), line(size="-"), line(size="3"))
    assert read_log(path, cost="size").cost.tolist() == [100.0, 0.0, 3.0]
    assert read_log(path, cost="1 + size/1000", key="endpoint").cost.tolist() == [1.1, 1.0, 1.003]
    with pytest.raises(LogError, match=r"access\.log: line 2: its cost is -1; a cost is a finite number >= 0"):
        read_log(log("junk", line(size="0"), line(size="1")), cost="size-1", format="combined")
    with pytest.raises(LogError, match="has no field 'bites' for the cost"):
        read_log(path, cost="bites")


def test_an_access_log_has_its_own_time(log: Callable[..., Path]) -> None:
    with pytest.raises(LogError, match="has no field 'stamp' for the time"):
        read_log(log(line()), time="stamp")


def test_bytes_that_are_not_utf8_do_not_stop_a_line(log: Callable[..., Path]) -> None:
    trace = read_log(log(line(tail=' "-" "caf').encode() + b'\xe9\xff"', line(user="élise")), key="user")
    assert names(trace) == ["-", "élise"]
    assert trace.provenance.skipped == 0


def test_very_long_lines_are_read_or_skipped_and_the_rest_is_whole(log: Callable[..., Path]) -> None:
    long = line("long", request="GET /" + "x" * 3_000_000)
    trace = read_log(log(line("a"), long, line("b"), "junk " * 1_000_000, line("c")))
    assert names(trace) == ["a", "b", "c"]
    assert trace.provenance.skipped == 2
    assert all(len(example) == 200 for example in trace.provenance.examples)


def test_blank_lines_are_nobodys_loss(log: Callable[..., Path]) -> None:
    origin = read_log(log("", line(), "  ", "\r", line())).provenance
    assert (origin.lines, origin.parsed, origin.skipped) == (2, 2, 0)


def test_the_first_three_lines_that_do_not_parse_are_kept_and_safe_to_print(log: Callable[..., Path]) -> None:
    bad = ["\x1b[2Jred\x07", "two\u202e\u2028", "é" * 300, "four"]
    trace = read_log(log(line(), *bad, *[line()] * 5))
    assert (trace.provenance.skipped, trace.provenance.parsed) == (4, 6)
    assert trace.provenance.examples == ("\\x1b[2Jred\\x07", "two\\u202e\\u2028", "é" * 200)


@given(st.text())
def test_what_is_printable_is_short_and_has_nothing_that_a_terminal_obeys(text: str) -> None:
    assert len(printable(text)) <= 200
    assert printable(text).isprintable()


# Formats


def test_the_format_is_that_of_most_of_the_first_lines(log: Callable[..., Path]) -> None:
    common, combined = line("10.0.0.8", tail=""), line("10.0.0.9")
    trace = read_log(log("junk", *[combined] * 5))
    assert (len(trace), trace.provenance.skipped) == (5, 1)
    assert trace.provenance.format == "combined (83.3 % of the first lines)"
    assert names(read_log(log("junk", combined, common, common))) == ["10.0.0.9", "10.0.0.8", "10.0.0.8"]


def test_a_format_can_be_forced(log: Callable[..., Path]) -> None:
    path = log(line("common", tail=""), line("combined"))
    assert read_log(path, format="common").provenance.format.startswith("common")


def test_an_unknown_format_is_an_error_that_names_those_known(log: Callable[..., Path]) -> None:
    with pytest.raises(LogError, match=r"unknown format 'xml'; the formats known are .*combined, common, .*csv"):
        read_log(log(line()), format="xml")


def test_an_unknown_key_is_an_error_that_names_those_known(log: Callable[..., Path]) -> None:
    with pytest.raises(LogError, match="has no field 'color' for the key; its fields are remote_addr"):
        read_log(log(line()), key="color")


# What cannot be read


@pytest.mark.parametrize("lines", [(), ("",), ("", "  ", "\r")])
@pytest.mark.parametrize("name", ["a.log", "a.log.gz", "a.log.zst"])
def test_an_empty_log_is_an_error_that_names_it(log: Callable[..., Path], lines: tuple[str, ...], name: str) -> None:
    path = log(*lines, name=name)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    if name.endswith(".zst"):
        path.write_bytes(zstandard.ZstdCompressor().compress(path.read_bytes()))
    with pytest.raises(LogError, match=rf"{name}: is empty"):
        read_log(path)


def test_a_log_in_which_nothing_parses_shows_its_first_lines_and_the_formats(
    log: Callable[..., Path],
) -> None:
    with pytest.raises(LogError) as caught:
        read_log(log("\x1bone", "two", "three", "four"))
    message = str(caught.value)
    assert "no format that is known fits its first lines" in message
    assert "--log-format" in message
    assert message.endswith("It begins: \\x1bone | two")
    assert message.isprintable()


def test_a_log_in_which_nothing_parses_in_the_forced_format_is_an_error(log: Callable[..., Path]) -> None:
    with pytest.raises(LogError, match="format w3c does not fit its first lines"):
        read_log(log(line(), line()), format="w3c")


def test_a_log_without_users_cannot_be_keyed_by_user(log: Callable[..., Path]) -> None:
    with pytest.raises(LogError, match="has nothing in the field 'remote_user' of the key in any line"):
        read_log(log(line(), line()), key="user")


@pytest.mark.parametrize("make", ["missing", "directory", "truncated", "corrupt", "bomb", "empty", "junk"])
def test_every_complaint_is_one_line_that_names_the_file(make: str, log: Callable[..., Path], tmp_path: Path) -> None:
    whole = gzip.compress("\n".join([line()] * 500).encode())
    path = tmp_path / f"{make}.gz"
    contents = {
        "truncated": whole[:-20],
        "corrupt": whole[:20] + b"\xff" * 20 + whole[40:],
        "bomb": gzip.compress(b"\n" * 5000),
        "empty": b"",
        "junk": gzip.compress(b"\x00\xff\n" * 50),
    }
    if make == "directory":
        path.mkdir()
    elif make in contents:
        path.write_bytes(contents[make])
    with pytest.raises(LogError) as caught:
        read_log(path, max_bytes=4000 if make == "bomb" else 1 << 20)
    assert isinstance(caught.value, ValueError)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()


def test_progress_ends_at_the_size_of_the_file() -> None:
    seen: list[tuple[int, int]] = []
    read_log(REAL, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (REAL.stat().st_size, REAL.stat().st_size)
