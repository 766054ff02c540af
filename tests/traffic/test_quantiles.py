import numpy as np
import pytest

from traffic.quantiles import PROBABILITIES, even_uniforms, normal_scores, quantile_mean, quantile_values, quantiles


def test_values_that_are_all_equal_are_one_quantile() -> None:
    assert quantiles(np.full(9, 3.0)) == (3.0,)
    assert quantile_values((3.0,), np.array([0.1, 0.9])).tolist() == [3.0, 3.0]


def test_a_lognormal_law_comes_back_from_its_quantiles() -> None:
    values = np.random.default_rng(1).lognormal(0.0, 1.5, 20_000)
    kept = quantiles(values)
    assert len(kept) == len(PROBABILITIES)
    again = quantile_values(kept, even_uniforms(20_000, np.random.default_rng(2)))
    shares = np.linspace(0.01, 0.95, 95)
    np.testing.assert_allclose(np.quantile(again, shares), np.quantile(values, shares), rtol=0.05)
    assert again.mean() == pytest.approx(quantile_mean(kept), rel=0.005)


def test_the_mean_is_exact_for_pieces_that_touch_zero_and_those_that_do_not() -> None:
    u = (np.arange(1_000_000) + 0.5) / 1_000_000
    for points in (np.linspace(0.0, 8.0, len(PROBABILITIES)), np.geomspace(0.1, 100.0, len(PROBABILITIES))):
        assert quantile_mean(points) == pytest.approx(quantile_values(points, u).mean(), rel=1e-4)


@pytest.mark.parametrize("memory", [0.0, 0.8, -0.5])
def test_even_uniforms_fill_every_part_once_and_remember(memory: float) -> None:
    drawn = even_uniforms(4000, np.random.default_rng(3), memory)
    assert sorted((drawn * 4000).astype(int).tolist()) == list(range(4000))
    scores = normal_scores(drawn)
    assert np.corrcoef(scores[1:], scores[:-1])[0, 1] == pytest.approx(memory, abs=0.05)


def test_no_draw_is_asked_for() -> None:
    assert even_uniforms(0, np.random.default_rng(1), 0.5).tolist() == []
