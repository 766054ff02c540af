"""What partitions would take and spare: measured costs times the scenario's rates."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_capacity import of, scenario

from ratesim import Limit
from ratesim.recommendation.assess.capacity import Capacity
from ratesim.recommendation.assess.partition_effect import READ, expired_rows, partition_effect
from ratesim.simulation.cost_model.postgres_factors import CLEANED
from ratesim.storage import PostgresStorageConfig
from ratesim.storage.partitions import parse_partition

LIMIT = Limit.parse("60/minute", "token_bucket")


def effect(partition: str = "none", keys: int = 1000, operations: float = 60.0, limit: Limit = LIMIT, **options):
    config = PostgresStorageConfig(partition_strategy=parse_partition(partition), **options)
    return partition_effect(config, limit, keys, operations, operations)


def test_a_row_expires_as_often_as_it_lives_at_most():
    assert expired_rows(LIMIT, 600, 1e9) == 10.0
    assert expired_rows(LIMIT, 10**9, 50.0) == 50.0
    assert expired_rows(Limit(10, 60.0, "token_bucket", burst=100.0), 600, 1e9) == 1.0


def test_the_work_of_cleanup_by_hand():
    assert effect(keys=600, operations=1e3).deleting == pytest.approx(600 * READ / 60 + 10 * CLEANED)
    assert effect(keys=600, operations=1e3, cleanup_interval=600.0).deleting == pytest.approx(
        600 * READ / 600 + 10 * CLEANED
    )
    assert effect(keys=600, operations=1e3, cleanup_interval=0).deleting == pytest.approx(10 * CLEANED)
    assert effect(keys=10**9, operations=1.0).deleting == pytest.approx(0.45 + CLEANED)


def test_few_keys_are_no_reason_to_cut_and_many_are_one_to_cut_by_time():
    assert effect(keys=1000).sentence.endswith("so the tables are not cut.")
    assert "tables cut by time (`ratesim repartition`)" in effect(keys=20_000_000).sentence


@pytest.mark.parametrize(
    ("partition", "said"), [("time:1h", "time:1h"), ("hash:4", "hash:4"), ("identifier:a*", "identifier:a*")]
)
def test_a_table_that_is_cut_is_told_what_that_takes(partition, said):
    found = effect(partition)
    assert found.strategy == partition
    assert found.sentence.startswith(f"Its tables are cut {'by time ' * partition.startswith('time')}({partition})")
    assert found.time == (partition if partition.startswith("time") else "time:1d")


@given(
    keys=st.integers(1, 10**9),
    operations=st.floats(0, 1e6),
    more=st.floats(1, 100),
    partition=st.sampled_from(["none", "time:1d", "hash:16", "identifier:a*,b*"]),
)
def test_more_keys_or_requests_never_take_less(keys, operations, more, partition):
    one = effect(partition, keys, operations)
    for other in (effect(partition, math.ceil(keys * more), operations), effect(partition, keys, operations * more)):
        for name in ("expired", "deleting", "by_time", "by_hash"):
            assert getattr(one, name) <= getattr(other, name) * (1 + 1e-9)


def test_every_postgres_has_one_and_it_is_written_as_json():
    for storage in ("postgresql://h?partition=time:1d", "hybrid+postgresql://h?consistency=lease"):
        found = of(storage)
        assert found.partitions.sentence in found.sentences
        assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(found)), Capacity) == found
    assert of("redis://h").partitions is of("memory://").partitions is None
    assert of("postgresql://h", scenario(10)).partitions.expired == pytest.approx(10 / 60)
