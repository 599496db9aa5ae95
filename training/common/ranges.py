"""Settings of a run that are numbers: what they may be, said before anything is computed."""

import sys

from detector.errors import ParameterError

ANY = (0.0, sys.float_info.max)
"""Every finite number that is not negative."""

SHARE = (0.0, 1.0)

RATE = (0.0, 1000.0)
"""Of learning; far beyond what any run survives, and far from where weights overflow at once."""

SEED = (0, 2**62)


def check_ranges(settings: object, **ranges: tuple[float, float]) -> None:
    """Hold attributes of ``settings``, by name, against the least and the largest value that they may have.

    Raises ParameterError for one that is outside, or no number at all (NaN).
    """
    for name, (low, high) in ranges.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            wanted = "a finite number, 0 or more" if (low, high) == ANY else f"in {low} to {high}"
            raise ParameterError(f"{name.replace('_', '-')} must be {wanted}, got {value}")
