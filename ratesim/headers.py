"""A decision as HTTP response headers, from which a client learns about its limit.

    RateLimit-Policy: "burst";q=10;w=1, "daily";q=1000;w=86400      the limits in force
    RateLimit: "burst";r=0;t=1                                      the rest of the limit that decided
    Retry-After: 1                                                  only when denied
    X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset     the older trio, when the time is given

Every number is whole and errs on the side that a client can rely on: quotas are rounded down, durations up. The quota unit
is cost, which is requests (the default unit of the draft) where every request costs 1.

Sources: RateLimit and RateLimit-Policy are draft-ietf-httpapi-ratelimit-headers-11 (May 2026), sections 3, 4 and 6,
https://www.ietf.org/archive/id/draft-ietf-httpapi-ratelimit-headers-11.txt; revision -10 has the same syntax. Their values
are Structured Fields, RFC 9651. Retry-After in seconds is RFC 9110, section 10.2.3; that it goes with status 429 is RFC
6585, section 4. The trio has no standard; its Reset is in seconds since the epoch, as at GitHub,
https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#checking-the-status-of-your-rate-limit.
"""

from __future__ import annotations

import math
from fractions import Fraction

from ratesim.limit import Decision, InvalidLimitError, Limit, Limits, as_limits

__all__ = ["rate_limit_headers"]

LARGEST_INTEGER = 999_999_999_999_999  # a Structured Field integer has at most 15 digits (RFC 9651, section 3.3.1)

UNNAMED = "default"  # the draft identifies a policy by its name, so a limit without one needs one


def rate_limit_headers(decision: Decision, limits: Limits | None = None, now: float | None = None) -> dict[str, str]:
    r"""Make the header fields of a decision, by name; their values are ASCII.

    Parameters
    ----------
    decision : Decision
        The decision.
    limits : Limit or iterable of Limit, optional
        All limits in force, the one that decided among them; by default that one alone. Pass the limits of the `acquire`:
        each becomes a policy, in the order of their names, so that the field stays the same over responses.
    now : float, optional
        Time of the decision in seconds since the epoch. Without it there is no X-RateLimit-*, because Reset needs it.

    Returns
    -------
    dict[str, str]
        The fields below.

    Raises
    ------
    InvalidLimitError
        If the limit that decided is not among `limits`, or two limits have one name (no name means "default").
    ValueError
        If `now` is negative or not finite.

    Notes ----- **RateLimit-Policy.** q is the cost that an untouched limit admits at once. w is the time in seconds in which
    as much comes back. They are rate and period, except for a bucket with a burst of its own: there q is the burst and w =
    period * burst / rate. So q/w is never above the sustained rate, and r never above q. With q = rate, a smaller burst
    would be announced as more than passes at once, and a larger one would have more left than its quota. For `adaptive` q is
    the configured rate, since a policy is to stay the same; its current limit shows in r alone, which may exceed q. q is 0
    where no request of cost 1 ever passes. w is at least 1, because the draft has no fractions of a second.

    **RateLimit.** r is the cost that is left, on a denial too, because lighter requests may still pass. t is the time in
    seconds for which r has to last. After a denial it lasts until the denied request could pass. Otherwise it lasts until
    the limit is untouched again, but at most one window (w before rounding). Revision -10 defined t as the time until there
    is more quota, of which this is an upper bound unless `adaptive` cuts its limit. An untouched limit has nothing to wait
    for, and no t. r/t is not held down to q/w, because the limit does admit r at once. A service that cannot take that
    should add a limit with a shorter period (section 8.5).

    **Retry-After.** Present when denied, and equal to t, because the draft wants it not earlier. A request that costs more
    than the limit can ever admit (retry_after is inf) has none, because every retry would be denied again.

    **X-RateLimit-\*.** q, r, and the second in which t has passed. For fixed_window that is the end of the window, as at
    GitHub.

    **More than 15 digits.** r is cut to 15 digits. t, w, Retry-After and Reset are left out (more than 31 million years).
    """
    policies = as_limits(decision.limit if limits is None else limits)
    if decision.limit not in policies:
        raise InvalidLimitError(
            f"the limit that decided, {decision.limit} named {decision.limit.name!r}, is not among `limits`"
        )
    if {"", UNNAMED} <= {limit.name for limit in policies}:
        raise InvalidLimitError(f"a limit without a name is called {UNNAMED!r} in headers, and another limit has that name")
    if now is not None and not 0.0 <= now < math.inf:
        raise ValueError(f"now {now!r}: must be seconds since the epoch")

    remaining = min(math.floor(decision.remaining), LARGEST_INTEGER)
    seconds = _effective_window(decision)
    headers = {
        "RateLimit-Policy": ", ".join(_policy(limit) for limit in policies),
        "RateLimit": _item(decision.limit, r=remaining, t=_whole(seconds) or None),
    }
    if not decision.allowed and (delay := _whole(decision.retry_after)) is not None:
        headers["Retry-After"] = str(delay)
    if now is not None:
        quota, _ = _quota(decision.limit)
        headers |= {"X-RateLimit-Limit": str(quota), "X-RateLimit-Remaining": str(remaining)}
        # As fractions: at today's epoch a float is 238 ns coarse, and its rounding could send a client a second early.
        if (reset := _whole(Fraction(now) + Fraction(seconds))) is not None:
            headers["X-RateLimit-Reset"] = str(reset)
    return headers


def _effective_window(decision: Decision) -> float:
    """Give the seconds for which `remaining` has to last; finite."""
    if not decision.allowed and decision.retry_after < math.inf:
        return decision.retry_after
    # Some rules remember for longer (adaptive: 16 periods) than a client has to wait: a window is enough.
    return min(decision.reset_after, _quota(decision.limit)[1])


def _quota(limit: Limit) -> tuple[int, float]:
    """Give the cost that an untouched limit admits at once, rounded down, and the seconds in which as much grows back."""
    if limit.burst is None or limit.burst == limit.rate:  # where rate * period / rate might not give period
        return math.floor(limit.rate), limit.period
    return math.floor(limit.burst), limit.period * limit.burst / limit.rate


def _policy(limit: Limit) -> str:
    quota, window = _quota(limit)
    return _item(limit, q=quota, w=_whole(window))


def _whole(seconds: float | Fraction) -> int | None:
    """Round up; None for more than 15 digits."""
    return math.ceil(seconds) if seconds <= LARGEST_INTEGER else None


def _item(limit: Limit, **parameters: int | None) -> str:
    """Format a Structured Field Item: a String with Integer parameters, without those that are None.

    Quotes are enough: a name has letters, digits, "_" and "-" only (`Limit`), nothing that a String would have to escape.
    """
    return f'"{limit.name or UNNAMED}"' + "".join(
        f";{key}={value}" for key, value in parameters.items() if value is not None
    )
