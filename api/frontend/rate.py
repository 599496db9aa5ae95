"""How fast a device works: measured where work was waiting all the time, else what it stated itself."""

from time import monotonic

_WINDOW = 4.0  # seconds of full load that make a measurement: some batches of a slow device
_STOPPED = 5.0  # a worker that reports twice a second and tells of more at once was stopped meanwhile
_HALF_LIFE = 30.0  # seconds in which a measurement loses half of its weight against what was stated


class Rate:
    """Regions a second that a device does while there is always something to do."""

    def __init__(self, stated: float) -> None:
        """Start with ``stated``, what the device found at its start."""
        self._stated = self._measured = stated
        self._at = monotonic()
        self._regions, self._seconds = 0, 0.0

    @property
    def value(self) -> float:
        """What was measured last, the nearer to what was stated the longer ago that is: a bad time leaves no
        trace for good."""
        weight = 0.5 ** ((monotonic() - self._at) / _HALF_LIFE)
        return self._stated + (self._measured - self._stated) * weight

    def report(self, regions: int, seconds: float) -> None:
        """Take in that the device did so many regions in so many seconds in which more were waiting."""
        if seconds > _STOPPED:
            self._regions, self._seconds = 0, 0.0
            return
        self._regions += regions
        self._seconds += seconds
        if self._seconds >= _WINDOW and self._regions:  # without any, it hangs, which is no rate
            self._measured = (self.value + self._regions / self._seconds) / 2
            self._at = monotonic()
            self._regions, self._seconds = 0, 0.0
