import numpy as np
import pytest

from traffic import Profile, TenantGroup, Tenants

SESSIONS = TenantGroup(session_requests=(5.0,), session_gap=(0.5,))


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    "groups",
    [
        (TenantGroup(),),
        (SESSIONS,),
        (TenantGroup(0.1, 0.7, session_requests=(1.0, *range(2, 28))), TenantGroup(0.9, 0.3, costs=(7.0,))),
    ],
)
@pytest.mark.parametrize("stretch", [False, True])
def test_the_rate_is_the_mean_whatever_the_sessions(groups: tuple[TenantGroup, ...], stretch: bool) -> None:
    recipe = Tenants(40.0, 20, 500.0, groups, Profile((1.0, 3.0), 100.0), stretch, start=1000.0)
    trace = recipe.trace(rng())
    assert len(trace) == pytest.approx(20_000, rel=0.005)
    assert trace == recipe.trace(rng())
    assert trace.time[0] >= 1000.0
    assert trace.time[-1] <= 1500.0
    assert len(np.unique(trace.key)) == 20


def test_requests_come_by_the_profile_again_and_again() -> None:
    recipe = Tenants(100.0, 50, 200.0, (SESSIONS,), Profile((0.0, 1.0, 3.0, 0.0), 100.0), stretch=True)
    part = (recipe.trace(rng()).time // 25).astype(int)
    assert np.bincount(part, minlength=8) / 20_000 == pytest.approx([0, 1 / 8, 3 / 8, 0] * 2, abs=0.01)


def test_a_session_has_its_requests_at_its_gaps() -> None:
    trace = Tenants(0.01, 2, 100_000.0, (SESSIONS,)).trace(rng())
    for key in range(2):
        gaps = np.diff(trace.time[trace.key == key])
        inside = gaps < 100
        np.testing.assert_allclose(gaps[inside], 0.5, atol=1e-6)
        assert np.count_nonzero(inside) == pytest.approx(0.8 * len(gaps), abs=3)  # 4 of 5 gaps


def test_sessions_of_a_key_do_not_overlap() -> None:
    group = TenantGroup(session_requests=(10.0,), session_gap=(1.0,), pauses=tuple(np.geomspace(0.5, 5.0, 27).tolist()))
    trace = Tenants(0.5, 1, 10_000.0, (group,)).trace(rng())
    gaps = np.round(np.diff(trace.time), 6)
    assert set(gaps[gaps < 1.0].tolist()) == set()
    assert np.count_nonzero(gaps == 1.0) == pytest.approx(4500, abs=20)


def test_large_sessions_may_be_fast() -> None:
    wide = tuple(np.geomspace(2.0, 100.0, 27).tolist())
    group = TenantGroup(session_requests=wide, session_gap=wide, size_and_gap=-0.9)
    trace = Tenants(0.05, 1, 1e7, (group,)).trace(rng())
    gaps = np.diff(trace.time)
    ends = np.flatnonzero(gaps > 150)
    size = np.diff(ends)
    gap = (trace.time[ends[1:]] - trace.time[ends[:-1] + 1]) / np.maximum(size - 1, 1)
    many = size > 2
    assert np.corrcoef(np.log(size[many]), np.log(gap[many]))[0, 1] < -0.7


def test_a_key_is_one_session_unless_it_has_users() -> None:
    trace = Tenants(1.0, 4, 2000.0, (SESSIONS,)).trace(rng())
    np.testing.assert_array_equal(trace.session, trace.key)


def test_users_of_a_key_come_by_their_shares_and_one_after_the_other() -> None:
    group = TenantGroup(users=3, user_requests=tuple(np.linspace(0.5, 1.5, 27).tolist()), user_memory=0.6)
    trace = Tenants(10.0, 5, 2000.0, (group,)).trace(rng())
    assert (trace.session // 3 == trace.key).all()
    of = trace.session[trace.key == 2] % 3
    shares = np.bincount(of) / len(of)
    assert shares == pytest.approx([0.22, 0.33, 0.45], abs=0.05)
    assert np.mean(of[1:] == of[:-1]) == pytest.approx(0.6 + 0.4 * (shares**2).sum(), abs=0.03)


def test_keys_of_a_group_may_be_unequal() -> None:
    counts = np.bincount(Tenants(100.0, 5, 100.0, (TenantGroup(key_ratio=32.0),)).trace(rng()).key)
    assert counts.sum() == 10_000
    assert counts[:-1] / counts[1:] == pytest.approx([2, 2, 2, 2], rel=0.02)


def test_every_group_has_a_key_also_where_they_are_few() -> None:
    groups = (TenantGroup(0.001), TenantGroup(0.001), TenantGroup(0.998))
    trace = Tenants(30.0, 3, 100.0, groups).trace(rng())
    assert np.bincount(trace.key).tolist() == pytest.approx([1000, 1000, 1000], abs=2)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Tenants(0.0, 1, 1.0), "rate must be a positive"),
        (lambda: Tenants(1.0, 1, float("inf")), "duration must be a positive"),
        (lambda: Tenants(1.0, 1, 1.0, (SESSIONS, SESSIONS)), "at least one for each of 2 groups"),
        (lambda: Profile((0.0, 0.0)), "one of them above 0"),
        (lambda: Profile((1.0,), 0.0), "period must be"),
        (lambda: Tenants(1.0, 1, 1.0, profile=Profile((0.0, 1.0), 10.0)).trace(rng()), "no request comes in the first 1 s"),
    ],
)
def test_what_makes_no_sense_is_refused(make, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=says):
        make()
