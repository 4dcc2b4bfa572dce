"""The likeliest sudden shift of a drifting, noisy level; see transition.py for the model. Pure numpy."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EDGE = 0.1  # this part of the steps at either end cannot hold a shift: nothing to compare it with
MIN_EDGE = 8
LONGEST_SHIFT = 0.05  # part of the steps
_DRIFTS = np.concatenate([[0.0], np.geomspace(1e-4, 10, 16)])  # λ
_ONSET = 8  # steps before the shift at which the noise may have changed
_NEAR = 2  # steps by which the place may move when the noise is looked at in the other way
_LEAST_SCALE = 0.02  # of the largest: where the pair is still all but identical it is not infinitely sure of itself


@dataclass(frozen=True)
class Shift:
    """The likeliest shift: `place` is the index of the first value of the new level."""

    statistic: float
    place: int
    size: float
    standard_error: float
    noise: float


def largest_shift(d: Floats) -> Shift:
    """The place and length at which a shift of the level gains most likelihood; n values -> one shift.

    It must also stand up to noise of one size before and another after, changing where that is likeliest shortly before
    the shift: where noise and drift set in together, as when the gate opens, their first strides from the quiet level
    would look like a shift to the smooth scale.
    """
    e = np.diff(d)
    lengths = sorted({1, math.ceil(LONGEST_SHIFT * len(d))})
    edge = max(MIN_EDGE, math.ceil(EDGE * len(d)))
    evidence = _Evidence(e, _noise_scale(e))
    found = [(length, evidence.statistics(length)) for length in lengths]
    candidates = [(length, _inner_maximum(statistics, length, edge, len(d))) for length, statistics in found]
    length, place = max(candidates, key=lambda c: float(dict(found)[c[0]][c[1]]))
    shift = evidence.shift(length, place)
    onsets = {
        max(place + offset, MIN_EDGE) for offset in np.linspace(-max(_ONSET, lengths[-1]), 2, 7).round().astype(int)
    }
    doubted = [_Evidence(e, _two_scales(e, int(onset), length)) for onset in onsets]
    likeliest = max(doubted, key=lambda doubt: doubt.plain).statistics(length)
    near = likeliest[max(place - _NEAR, 0) : place + _NEAR + 1]
    return replace(shift, statistic=min(shift.statistic, float(near.max())))


def _inner_maximum(statistics: Floats, length: int, edge: int, n_values: int) -> int:
    """Where it is largest, `edge` values being left on either side of the shift."""
    return int(statistics[edge - 1 : n_values - edge - length + 1].argmax()) + edge - 1


class _Evidence:
    """How much better a shift explains the increments e (n,) than drift and noise of this scale (n + 1,) alone.

    The increments have the tridiagonal covariance σ²·T(λ); a shift of `length` steps adds size/length to that many of
    them. With u such a box, its estimate is u'T⁻¹e / u'T⁻¹u and it lowers e'T⁻¹e by (u'T⁻¹e)² / u'T⁻¹u.
    """

    def __init__(self, e: Floats, scale: Floats) -> None:
        self._n, self._scale, self._model = len(e), scale, _Whitening(scale)
        self._x = self._model.solve(e)  # (λ, n) T⁻¹e
        self._rest = self._x @ e  # (λ,) e'T⁻¹e
        self.plain = float(self._likelihood(self._rest[:, None]).max())

    def statistics(self, length: int) -> Floats:
        """√(2 · gain in log-likelihood) at every place, (n − length + 1,); normal in size where λ is known."""
        gain = self._likelihood(self._fit(length)[2]).max(axis=0) - self.plain
        return np.sqrt(2 * np.maximum(gain, 0))

    def shift(self, length: int, place: int) -> Shift:
        """The shift at one place."""
        hit, weight, left = (array[:, place] for array in self._fit(length))
        drift = int(self._likelihood(left[:, None]).argmax())
        variance = left[drift] / (self._n - 1)
        return Shift(
            statistic=float(self.statistics(length)[place]),
            place=place + 1 + (length - 1) // 2,
            size=float(hit[drift] / weight[drift]),
            standard_error=float(math.sqrt(variance / weight[drift])),
            noise=float(math.sqrt(variance) * np.median(self._scale)),
        )

    def _fit(self, length: int) -> tuple[Floats, Floats, Floats]:
        """u'T⁻¹e, u'T⁻¹u and what is left of e'T⁻¹e, each (λ, places)."""
        sums = np.cumsum(np.pad(self._x, ((0, 0), (1, 0))), axis=1)
        hit = (sums[:, length:] - sums[:, :-length]) / length
        weight = self._model.boxes(length)
        return hit, weight, np.maximum(self._rest[:, None] - hit**2 / weight, 1e-12 * self._rest[:, None])

    def _likelihood(self, left: Floats) -> Floats:
        """Logarithm, at the best σ, for every λ (rows)."""
        likelihood: Floats = -self._n / 2 * np.log(left) - self._model.log_det[:, None] / 2
        return likelihood


def _two_scales(e: Floats, place: int, length: int) -> Floats:
    """One size of the noise before the shift and another after it."""
    size = np.abs(e)
    before, after = (
        max(float(np.median(part)), np.finfo(np.float64).tiny) for part in (size[:place], size[place + length :])
    )
    scale = np.where(np.arange(len(e) + 1) <= place + length // 2, before, after)
    return np.maximum(scale / max(before, after), _LEAST_SCALE)


def _noise_scale(e: Floats) -> Floats:
    """The slowly changing size of the increments e (n,), as (n + 1,) relative scales of the values themselves.

    A running median, which a single shift does not move, smoothed.
    """
    n = len(e)
    half = min(max(10, n // 6), (n - 1) // 2)
    size = np.abs(e)
    starts = np.clip(np.arange(n) - half, 0, n - 2 * half - 1)
    medians = np.array([np.median(size[start : start + 2 * half + 1]) for start in starts])
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / (half / 2)) ** 2)
    smooth = np.convolve(np.pad(medians, half, mode="edge"), kernel / kernel.sum(), "valid")
    smooth = np.maximum(smooth / smooth.max(), _LEAST_SCALE)
    return np.concatenate([smooth[:1], (smooth[1:] + smooth[:-1]) / 2, smooth[-1:]])


class _Whitening:
    """T(λ) for every λ at once: λ·s² of drift plus the noise of two neighbours on the diagonal, −s² beside it."""

    def __init__(self, scale: Floats) -> None:
        variance = scale**2
        both = variance[1:] + variance[:-1]
        diagonal = _DRIFTS[:, None] * both / 2 + both  # (λ, n)
        self._beside = -variance[1:-1]
        n = len(both)
        down, up = np.empty_like(diagonal), np.empty_like(diagonal)  # pivots of both eliminations
        down[:, 0], up[:, -1] = diagonal[:, 0], diagonal[:, -1]
        for i in range(1, n):
            down[:, i] = diagonal[:, i] - self._beside[i - 1] ** 2 / down[:, i - 1]
            up[:, -1 - i] = diagonal[:, -1 - i] - self._beside[-i] ** 2 / up[:, -i]
        self._pivots = down
        self._inverse_diagonal = 1 / (down + up - diagonal)
        self.log_det = np.log(down).sum(axis=1)  # (λ,)

    def solve(self, e: Floats) -> Floats:
        """T⁻¹e: (n,) -> (λ, n)."""
        x = np.empty_like(self._pivots)
        x[:, 0] = e[0]
        for i in range(1, len(e)):
            x[:, i] = e[i] - self._beside[i - 1] / self._pivots[:, i - 1] * x[:, i - 1]
        x[:, -1] /= self._pivots[:, -1]
        for i in range(len(e) - 2, -1, -1):
            x[:, i] = (x[:, i] - self._beside[i] * x[:, i + 1]) / self._pivots[:, i]
        return x

    def boxes(self, length: int) -> Floats:
        """u'T⁻¹u for a box of height 1/length at every place: (λ, n − length + 1).

        Above the diagonal the inverse is (T⁻¹)ᵢⱼ = (T⁻¹)ⱼⱼ · Π ratio over i … j−1.
        """
        n_places = self._pivots.shape[1] - length + 1
        ratio = -self._beside / self._pivots[:, :-1]
        above = np.zeros((len(_DRIFTS), n_places))
        total = np.zeros_like(above)
        for i in range(length):
            if i:
                above = (1 + above) * ratio[:, i - 1 : i - 1 + n_places]
            total += self._inverse_diagonal[:, i : i + n_places] * (1 + 2 * above)
        return total / length**2
