"""The codec table: what it says of the states."""

from __future__ import annotations

from ratesim.benchmarks.compression import measure, samples
from ratesim.storage.compression import CODECS, compress


def test_a_token_bucket_is_too_small_for_every_codec_and_a_long_log_shrinks_to_a_quarter() -> None:
    fields, data = {}, {}
    for name, size, floats in samples():
        fields[name], data[name] = size, floats
    for codec in CODECS[1:]:
        for short in ("token_bucket", "sliding_window"):
            assert len(compress(data[short], codec)) > len(data[short])  # raw, under its tag
        for long in ("sliding_log 1,000", "sliding_log 10,000"):
            assert len(compress(data[long], codec)) < fields[long] / 4


def test_every_codec_is_measured() -> None:
    best = measure(b"professional, eu-west-1, " * 40)
    assert list(best) == list(CODECS[1:])
    assert all(0 < size < 1000 and up > 0 and down > 0 for size, up, down in best.values())
