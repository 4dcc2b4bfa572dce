"""The numbers behind a curve: arrays that grow in place, so that a point costs nothing and a picture copies nothing."""

import math

import numpy as np
from numpy.typing import NDArray

FIRST_CAPACITY = 4096


class Series:
    """Points (x, y) with x strictly rising. Going back in x, as a resumed run does, forgets what lay beyond."""

    def __init__(self) -> None:
        self._x = np.empty(FIRST_CAPACITY)
        self._y = np.empty(FIRST_CAPACITY)
        self._n = 0
        self.low, self.high = math.inf, -math.inf
        self.version = 0

    def __len__(self) -> int:
        return self._n

    @property
    def x(self) -> NDArray[np.float64]:
        """(n,) a view, not a copy: valid until the next append."""
        return self._x[: self._n]

    @property
    def y(self) -> NDArray[np.float64]:
        """(n,) a view, not a copy: valid until the next append."""
        return self._y[: self._n]

    def append(self, x: float, y: float | None) -> bool:
        """Add a point and say so; a missing or non-finite value leaves the curve as it is."""
        if y is None or not math.isfinite(y):
            return False
        n = self._n
        if n and x <= self._x[n - 1]:
            n = int(np.searchsorted(self._x[:n], x))
        if n == len(self._x):
            self._x, self._y = (np.concatenate([a, np.empty(len(a))]) for a in (self._x, self._y))
        self._x[n], self._y[n] = x, y
        self._n = n + 1
        self.version += 1
        if y < self.low:
            self.low = y
        if y > self.high:
            self.high = y
        return True

    def extend(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        """Replace everything by whole arrays (n,), (n,), all finite, x rising."""
        self.clear()
        if len(x):
            self._x, self._y, self._n = np.array(x, float), np.array(y, float), len(x)
            self.low, self.high = float(self._y.min()), float(self._y.max())

    def clear(self) -> None:
        self._n = 0
        self.low, self.high = math.inf, -math.inf
        self.version += 1

    @property
    def last(self) -> float | None:
        return float(self._y[self._n - 1]) if self._n else None

    def extent_between(self, first: float, last: float) -> tuple[float, float]:
        """(lowest, highest) value with first <= x <= last; (inf, -inf) where there is none."""
        begin, end = np.searchsorted(self.x, first, side="left"), np.searchsorted(self.x, last, side="right")
        part = self._y[begin:end]
        return (float(part.min()), float(part.max())) if len(part) else (math.inf, -math.inf)

    def at(self, x: float) -> float | None:
        """The value of the nearest point, or None where the curve has not been or is long past."""
        if not self._n:
            return None
        first, last = self._x[0], self._x[self._n - 1]
        slack = max((last - first) * 0.02, 1.0)
        if not first - slack <= x <= last + slack:
            return None
        right = int(np.searchsorted(self.x, x))
        left = max(right - 1, 0)
        right = min(right, self._n - 1)
        return float(self._y[left if x - self._x[left] <= self._x[right] - x else right])


class Smoother:
    """Exponential mean with the bias of its beginning taken out; `window` is about how many points it looks back."""

    def __init__(self, window: float) -> None:
        self.window = window
        self.reset()

    def reset(self) -> None:
        self._sum = self._weight = 0.0

    def __call__(self, value: float) -> float:
        keep = 1 - 1 / max(self.window, 1.0)
        self._sum = keep * self._sum + (1 - keep) * value
        self._weight = keep * self._weight + (1 - keep)
        return self._sum / self._weight if self._weight else value


def nice_ceiling(value: float) -> float:
    """The next larger number of the form 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten; value > 0."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9))
