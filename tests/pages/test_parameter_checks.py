"""A parameter that a notebook could not take is refused in one line, with its name and the remedy, and no kernel starts."""

from __future__ import annotations

import pytest

from ratesim.errors import RatesimError
from ratesim.notebook import find, notebooks, parameters_of
from ratesim.pages.parameter_checks import BOUNDS, CHOICES, READS, check_parameters

LOG = "traffic/data/apache_access_10k.log.gz"
NAMES = sorted(path.stem for path in notebooks().glob("*.ipynb"))
FREE = {"out", "scenario", "log", "key", "log_format", "time", "time_zone", "cost", "status", "session", "endpoint"}
FREE |= {"busiest", "algorithm", "algorithms"}  # checked otherwise


@pytest.fixture
def log(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("when,who,tokens\n1700000000,a,3\n1700000001,b,4\n1700000002,a,5\n")
    return str(file)


@pytest.mark.parametrize("name", NAMES)
def test_the_defaults_of_a_notebook_are_taken(name):
    check_parameters(name, {})


@pytest.mark.parametrize("name", NAMES)
def test_no_parameter_is_forgotten(name):
    for each in parameters_of(find(name)):
        assert isinstance(each.default, bool) or each.name in {*FREE, *BOUNDS, *CHOICES, *READS}


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        (
            "consistency",
            {"limit": "100/minut"},
            "parameter limit: limit '100/minut': unknown unit 'minut'; known are",
        ),
        ("faults", {"limit": "0/second"}, "parameter limit: rate 0.0: must be between"),
        ("consistency", {"nodes": 0}, "parameter nodes: 0 is out of range; give a number from 1 to 1,000"),
        ("incident", {"offered": 0.5}, "parameter offered: 0.5 is out of range; give a number from 1.001 to 1,000"),
        ("backends", {"network": "moon"}, "parameter network: 'moon': known are loopback, same_zone"),
        ("eviction", {"algorithms": "gcra, tokenbucket"}, "parameter algorithms: 'tokenbucket': did you mean token_bucket?"),
        ("your_log", {"algorithm": "guess"}, "parameter algorithm: 'guess': known are adaptive"),
        ("your_log", {"period": "fortnight"}, "parameter period: limit '1/fortnight': unknown unit 'fortnight'"),
        ("faults", {"fault": "partitoin"}, "parameter fault: 'partitoin': did you mean partition?"),
        ("faults", {"on_store_failure": "open"}, "parameter on_store_failure: 'open': known are fail_open"),
        ("capacity", {"prices": "no.toml"}, "parameter prices: prices no.toml: cannot be read"),
        ("recommendation", {"profile": "no.json"}, "parameter profile: profile no.json: cannot be read"),
        ("recommendation", {"scenario": "quickstrt"}, "scenario 'quickstrt': no such file; "),
        ("incident", {"log": "nowhere.log"}, "parameter log: nowhere.log: no such file; check the path"),
        ("your_log", {"key": "color"}, "has no field 'color' for the key; its fields are"),
        ("incident", {"key": "client"}, "parameter key: belongs to a log, and there is none; set log as well"),
        ("backends", {"key": "color"}, "has no field 'color' for the key; its fields are"),
        ("backends", {"log": LOG}, "limit: say what is allowed to each key of the log, such as 100/minute"),
        ("consistency", {"log": LOG, "skew": 2.0}, "parameter skew: a log has its own; leave out skew, or the log"),
        ("eviction", {"log": LOG, "busiest": "soon"}, "parameter busiest: 'soon' is not a time; write 2ms, 0.5s or 1h"),
        (
            "eviction",
            {"log": LOG, "time_unit": "sec"},
            "parameter time_unit: 'sec': known are s, ms, us, ns, iso, excel, dmy, mdy",
        ),
        ("history", {"reports": "nowhere"}, "nowhere: is no directory; name one that holds reports"),
        ("algorithms", {"log": LOG, "format": "xml"}, "parameter format: 'xml': known are "),
    ],
)
def test_what_cannot_be_is_one_line_with_the_remedy(name, given, said):
    with pytest.raises(RatesimError) as caught:
        check_parameters(name, given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"your_log", "history"}))
def test_the_columns_of_a_log_are_looked_for_before_it_is_read(name, log):
    columns = {"log": log, "key": "who", "time": "when", "cost": "tokens*2"}
    limit = {"limit": "5/second"}
    check_parameters(name, columns | limit)
    for column, said in (("key", "for the key"), ("time", "'bad'"), ("cost", "for the cost")):
        with pytest.raises(RatesimError, match=said) as caught:
            check_parameters(name, {**columns, **limit, column: "bad"})
        assert "mine.csv" in str(caught.value)


def test_only_the_first_lines_of_a_long_log_are_read(tmp_path):
    long = tmp_path / "long.csv"
    long.write_text("time,cost\n" + "1700000000,1\n" * 200_000 + "1700000000,-5\n")
    check_parameters("incident", {"log": str(long), "key": "none", "cost": "cost"})  # the last line would be refused
