"""The y axis of a plot that is looked at for hours: it widens in strides and never narrows by itself. Qt-free."""

import math

from .series import nice_ceiling


class SteadyRange:
    """From `low` to `high`; infinite the wrong way round while nothing is known."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.low, self.high = math.inf, -math.inf

    @property
    def known(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    def include(self, low: float, high: float) -> None:
        """Widen in tenths of a round height where the data ask for it; both finite."""
        if low < self.low or high > self.high:
            self.low, self.high = _in_strides(min(low, self.low), max(high, self.high))


def _in_strides(low: float, high: float) -> tuple[float, float]:
    height = max(high - low, abs(high) * 1e-3) or 1e-9
    stride = nice_ceiling(height) / 10
    return math.floor(low / stride) * stride, math.ceil(high / stride) * stride
