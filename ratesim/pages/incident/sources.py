"""What the public record says of limiters that sync in the background, with its addresses, and what it leaves open."""

from __future__ import annotations

from ratesim.limit import Limit

__all__ = ["ASSUMED", "GATEWAY", "KONG_FLOOR", "KONG_LEAST", "PUBLISHED", "PUBLISHED_LIMIT", "RECORD"]

# wso2/api-platform#2187: seconds between syncs, and what was admitted above the limit, as a share of it.
PUBLISHED_LIMIT = Limit(1000.0, 1.0, "fixed_window")
PUBLISHED = {0.05: 0.131, 0.01: 0.037}

GATEWAY = 0.05  # seconds, wso2/api-platform#2142: the interval unless another is set
KONG_FLOOR, KONG_LEAST = 1.0, 0.02  # seconds: what Kong advises at least, and what it accepts at least

WSO2 = "https://github.com/wso2/api-platform/issues/"
CODE = "https://github.com/wso2/gateway-controllers/pull/203"
KONG = "https://developer.konghq.com/support/rate-limiting-advanced-plugin-showing-warn-in-logs-when-sync-rate-set-between-0-and-1/"
KONG_STRATEGIES = "https://developer.konghq.com/gateway/rate-limiting/strategies"
KONG_OPTIONS = "https://docs.konghq.com/hub/kong-inc/rate-limiting-advanced/unreleased/configuration"

# What is on record, and where; in our words.
RECORD = (
    (
        "A gateway's new backend counts in memory and reconciles with Redis every sync_interval, 50 ms unless set, for "
        "fixed windows. Its overshoot is given as about (replicas − 1) × rate × sync_interval. A maintainer proposed this "
        "improvement in June 2026. The issue contains no user's report of an outage. The proposal does not define the rate.",
        "wso2/api-platform#2142",
        f"{WSO2}2142",
    ),
    (
        "The same maintainer measured a limit of 1000 per second, saturated for five minutes. The overshoot was 13.1 % at "
        "50 ms and 3.7 % at 10 ms. Redis was nearly idle, and the gateway was bound by its processors.",
        "wso2/api-platform#2187",
        f"{WSO2}2187",
    ),
    (
        "The code: a replica decides on the count that its last flush brought back plus its own since. It flushes only what "
        "it admitted, and reads at no other time. A comment puts the flushes at active keys × replicas / interval.",
        "wso2/gateway-controllers#203",
        CODE,
    ),
    (
        "Kong accepts a sync_rate from 20 ms on, but warns of less than 1 s. A shorter interval loads Kong and Redis, and "
        "Kong may block waiting for Redis.",
        "Kong support",
        KONG,
    ),
    (
        "With a sync_rate of 0 every request is synchronous, and only then is Kong's count called accurate.",
        "Kong",
        KONG_STRATEGIES,
    ),
    ("With −1 the counters of a node stay on it.", "Kong", KONG_OPTIONS),
)

ASSUMED = (
    "Assumed here, because the public record does not state it: the number of replicas and their demand (several values are "
    "tried); Poisson arrivals that any replica may receive; windows aligned with the clock; a separate flush phase for each "
    "replica; Kong's syncs working like the gateway's. Only the beginning of the findings of #2187 could be read."
)
