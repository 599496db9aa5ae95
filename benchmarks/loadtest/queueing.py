"""How long requests wait, by a model: Poisson arrivals, one queue, c servers, any service time (M/G/c).

Erlang's C formula, which is for exponential service times (Kleinrock, Queueing Systems, volume 1, 1975),
corrected for others as Allen and Cunneen do (Allen, Probability, Statistics, and Queueing Theory, 1990):
exact for one server, where it is the formula of Pollaczek and Khinchine, and near for several.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Queue:
    """A queue of requests that come at random, ``rate`` a second, to ``servers``.

    Each takes ``service_seconds`` for one on average, with ``variability`` as the squared coefficient of
    variation (0: always the same, 1: exponential).
    """

    rate: float
    servers: int
    service_seconds: float
    variability: float = 0.0

    @property
    def utilisation(self) -> float:
        """The share of their time that servers work; from 1 on the queue grows without end."""
        return self.rate * self.service_seconds / self.servers

    @property
    def waiting_share(self) -> float:
        """The share of requests that wait at all, by Erlang's C formula; 1 in overload."""
        if self.utilisation >= 1:
            return 1.0
        blocked = 1.0  # Erlang's B formula, server by server
        offered = self.rate * self.service_seconds
        for count in range(1, self.servers + 1):
            blocked = offered * blocked / (count + offered * blocked)
        return blocked / (1 - self.utilisation * (1 - blocked))

    @property
    def mean_wait(self) -> float:
        """Mean seconds in the queue, of those that do not wait too; infinite in overload."""
        if self.utilisation >= 1:
            return math.inf
        exponential = self.waiting_share * self.service_seconds / (self.servers * (1 - self.utilisation))
        return exponential * (1 + self.variability) / 2

    def wait(self, percent: float) -> float:
        """Return the seconds in the queue that ``percent`` of the requests do not exceed.

        Waits of those that wait are taken for exponential, with the mean that they have.
        """
        if self.utilisation >= 1:
            return math.inf
        beyond = 1 - percent / 100
        if beyond >= self.waiting_share:
            return 0.0
        return self.mean_wait / self.waiting_share * math.log(self.waiting_share / beyond)
