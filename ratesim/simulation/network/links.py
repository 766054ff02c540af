"""Links: presets of the one-way delay between an API node and a server, and the delay and loss of each message.

A message is one TCP segment. A lost segment is sent again after a timeout, so a loss is a delay: a request that waits for
its answer is followed by nothing that would tell the sender earlier. A tail loss probe does not either: with one packet in
flight Linux waits two round trips and 200 ms for it (commit bb4d991a28cc, "tcp: adjust tail loss probe timeout", 2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ratesim.simulation.jit_cache import compiled
from ratesim.simulation.network import draw_column
from ratesim.simulation.network.counter_rng import draw, draws
from traffic import Trace

__all__ = ["BACK", "LOST", "OUT", "PRESETS", "Link", "preset_link"]

_NORMAL = NormalDist()
TOGETHER = 1024  # delays that are computed together, in the processor's cache

OUT, BACK = 1, 3  # purposes of draws: how long a message to the server, and one from it, is on its way
LOST = {OUT: 4, BACK: 5}  # and how often it is lost

# How Linux waits for an acknowledgement: the smoothed round trip and at least RTO_MIN (TCP_RTO_MIN; RFC 6298, 2011, wants a
# second in all), doubled with each retransmission up to RTO_MAX (TCP_RTO_MAX), RETRANSMISSIONS times (tcp_retries2:
# https://docs.kernel.org/networking/ip-sysctl.html).
RTO_MIN, RTO_MAX, RETRANSMISSIONS = 0.2, 120.0, 15


@dataclass(frozen=True, slots=True)
class Link:
    """A link with lognormal one-way delay and independent losses.

    Attributes
    ----------
    median : float
        Median delay, in seconds.
    sigma : float
        Standard deviation of the logarithm of the delay.
    source : str
        Where the numbers come from.
    loss : float
        Probability that a message is lost, independently each time it is sent.
    """

    median: float
    sigma: float
    source: str
    loss: float = 0.0

    @property
    def rto(self) -> float:
        """Retransmission timeout: seconds until a lost message is sent again for the first time."""
        return 2.0 * self.median + RTO_MIN

    def delay(self, uniform: float) -> float:
        """Return the delay at a quantile in (0, 1), in seconds, of a message that is not lost."""
        return self.median * math.exp(self.sigma * _NORMAL.inv_cdf(uniform))

    def delays(self, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the same for many quantiles, but for rounding."""
        seconds = np.empty(len(uniform))
        compiled(draw_column).draw_normals(uniform, np.empty(TOGETHER, np.int64), seconds)
        seconds *= self.sigma
        np.exp(seconds, out=seconds)
        seconds *= self.median
        return seconds

    def retransmission_delay(self, uniform: float, more: float = 0.0) -> float:
        """Return the seconds that losses add.

        A message that is lost k times is delayed by rto * (2**k - 1). The probability of that is loss**k * (1 - loss), as
        long as RTO_MAX and RETRANSMISSIONS are far.

        Parameters
        ----------
        uniform : float
            A uniform number in (0, 1).
        more : float
            A further probability of loss, independent of the link's own.
        """
        loss = self._lost(more)
        still, wait, seconds = loss, self.rto, 0.0
        for _ in range(RETRANSMISSIONS):
            if uniform >= still:
                break
            seconds += wait
            still, wait = still * loss, min(2.0 * wait, RTO_MAX)
        return seconds

    def retransmission_delays(self, uniform: NDArray[np.float64], more: float = 0.0) -> NDArray[np.float64]:
        """Return the same for many uniform numbers, to the bit."""
        loss = self._lost(more)
        still, wait, seconds = loss, self.rto, np.zeros(len(uniform))
        for _ in range(RETRANSMISSIONS):
            again = uniform < still
            if not again.any():
                break
            seconds[again] += wait
            still, wait = still * loss, min(2.0 * wait, RTO_MAX)
        return seconds

    def _lost(self, more: float) -> float:
        return 1.0 - (1.0 - self.loss) * (1.0 - more) if more else self.loss

    def transit_time(self, seed: int, identifier: str, now: float, purpose: int) -> float:
        """Return the transit time of a message in seconds, losses included; `purpose` is OUT or BACK."""
        seconds = self.delay(draw(seed, identifier, now, purpose))
        return seconds + self.retransmission_delay(draw(seed, identifier, now, LOST[purpose])) if self.loss else seconds

    def transit_times(self, seed: int, trace: Trace, purpose: int) -> NDArray[np.float64]:
        """Return the same for every request of a trace, shape (len(trace),)."""
        seconds = self.delays(draws(seed, trace, purpose))
        return seconds + self.retransmission_delays(draws(seed, trace, LOST[purpose])) if self.loss else seconds


# Medians are half of a round trip; web pages as they were stored when they were looked up in 2026. Spreads are assumed: a
# sigma of 0.25 puts the 99th percentile at 1.8 medians, 0.1 at 1.3 and 0.5 at 3.2. Where there is something to go by: of ten
# pings within a zone the longest took 1.6 times as long as the shortest (Solomianik, below), a sigma of 0.22 each way.
PRESETS = {
    "loopback": Link(
        15e-6, 0.1, "round trip of about 30 us through the loopback of the machine the profile was measured on"
    ),
    "same_zone": Link(
        250e-6,
        0.25,
        "0.5 ms round trip within a data center: J. Dean, Designs, Lessons and Advice (LADIS 2009); measured on EC2: 0.26 "
        "to 0.41 ms (O. Solomianik, Network Latency Inside And Across Amazon EC2 Availability Zones, 2009, "
        "https://orensol.com/2009/05/24/network-latency-inside-and-across-amazon-ec2-availability-zones/) and 0.45 ms "
        "(Three Latency Anomalies, 2010, https://amistrongeryet.blogspot.com/2010/04/three-latency-anomalies.html)",
    ),
    "cross_zone": Link(
        500e-6,
        0.25,
        "1 ms round trip between zones of a region: 0.94 to 1.13 ms on EC2 (Solomianik, 2009, as for same_zone), 0.83 ms "
        "(L. Liesis, What is AWS EC2 cross availability zones network lag, 2022, https://lukasliesis.medium.com), below 2 "
        "ms (What are availability zones?, https://learn.microsoft.com/en-us/Azure/availability-zones/az-overview)",
    ),
    "cross_region": Link(
        36e-3,
        0.1,
        "72 ms round trip: the longest within North America (Azure network round-trip latency statistics, October 2019, "
        "https://docs.microsoft.com/en-us/azure/networking/azure-network-latency) and N. Virginia to N. California on EC2 "
        "(AWS Regions, 2017, https://acomputerscientistlearnsaws.blogspot.com/2017/04/aws-regions.html)",
    ),
    "mobile_edge": Link(
        25e-3,
        0.5,
        "50 ms round trip and 0.2 % lost: 4G in Germany and Japan (Codavel, Real-world latency and packet loss, "
        "https://blog.codavel.com/performance-report-defining-use-cases); 28 ms to a near test server is the world's median "
        "(Ookla of November 2022, in https://tele.net.in/global-mobile-network-download-speeds-increase-by-nearly-17-per-"
        "cent-in-2022-says-ookla-study/)",
        loss=0.002,
    ),
}
OWN_SIGMA = 0.25


def preset_link(network: str, rtt: float | None = None, loss: float | None = None) -> Link:
    """Return the link of a preset.

    Parameters
    ----------
    network : str
        A name in PRESETS.
    rtt : float, optional
        Round trip in seconds, instead of the preset's.
    loss : float, optional
        Probability of loss, instead of the preset's.

    Raises
    ------
    KeyError
        If there is no such preset.
    """
    link = PRESETS[network]
    if rtt is not None:
        link = Link(rtt / 2, OWN_SIGMA, f"a round trip of {rtt:g} s, as it was given; spread assumed", link.loss)
    return link if loss is None else replace(link, loss=loss)
