"""Whether the loss shows a transition: only as paired evidence, against both controls, over several data orders.

The loss of a single run has a change-point wherever one looks, also without any gate. What can be evidence is the
difference d(t) = loss of the annealed run − loss of its control, taken on identical batches. Two such runs drift apart
like a random walk while they learn, so a plain CUSUM raises false alarms. Here d is a drifting level plus noise,

    d(t) = m(t) + s(t)·ε(t),    m(t) = m(t−1) + √λ·s(t)·η(t),

with a noise scale s(t) that may change slowly, and the test asks whether a sudden shift of the level explains d better
than drift alone: the CUSUM of d whitened by that model, as a likelihood ratio. λ and the variance are estimated anew
with and without the shift, so that drift is not taken for a shift and a shift not for drift. A shift may take up to a
twentieth of the steps; what merely follows the much wider curve of alpha is drift.

Pure Python and numpy: the window may import it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Outcome = Literal["observed", "not_observed", "not_measured"]
Reason = Literal["", "no_control", "too_few_orders", "too_few_steps", "zero_variance", "not_finite"]
Floats = NDArray[np.float64]

CONTROLS = ("lora", "fixed")
MIN_STEPS = 40
MIN_ORDERS = 3
LEVEL = 0.01  # chance of a false alarm in a pair that does not drift; see critical_value
EDGE = 0.1  # this part of the steps at either end cannot hold a shift: nothing to compare it with
MIN_EDGE = 8
LONGEST_SHIFT = 0.05  # part of the steps
TOLERANCE = 0.05  # part of the steps by which the evidence of several orders may differ
MIN_TOLERANCE = 3
ROUNDING = 1e-6  # nats; differences that move less than this are float32 rounding, not noise
MOST_POINTS = 2000  # a longer series is averaged to this many points: time and memory stay bounded
_DRIFTS = np.concatenate([[0.0], np.geomspace(1e-4, 10, 16)])  # λ
_NEAR = 2  # steps by which the place may move when the noise is looked at in the other way
_LEAST_SCALE = 0.02  # of the largest: where the pair is still all but identical it is not infinitely sure of itself


@dataclass(frozen=True)
class Change:
    """What one pair shows. `step` counts from 1 and is the first of the new level; `size` and `standard_error` in nats.

    `size` is the step of annealed minus control: negative where the annealed run became the better one. `statistic` is
    compared with `critical`; `noise` is the standard deviation of the difference from one step to the next that is no
    drift, in nats. Where nothing was measured, `reason` says why and all numbers are None.
    """

    outcome: Outcome
    reason: Reason = ""
    n_steps: int = 0
    step: int | None = None
    size: float | None = None
    standard_error: float | None = None
    statistic: float | None = None
    critical: float | None = None
    noise: float | None = None


@dataclass(frozen=True)
class Transition:
    """The verdict over all pairs. `step`, `tolerance` (in steps) and `sizes` (control -> mean nats) where observed.

    `pairs` is control -> the changes of its data orders, in their order.
    """

    outcome: Outcome
    reason: Reason
    n_orders: int
    n_agreeing: int
    step: int | None
    tolerance: int | None
    sizes: dict[str, float]
    pairs: dict[str, tuple[Change, ...]]

    def row(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"pairs": {kind: [asdict(change) for change in self.pairs[kind]] for kind in self.pairs}}


def critical_value(n_steps: int) -> float:
    """What |statistic| must exceed: a normal variable does so at any of n_steps places with chance ≤ LEVEL.

    That union bound is the principle; benchmarks/transition.py shows what it comes to with drift, with growing noise
    and with real pairs.
    """
    return -NormalDist().inv_cdf(LEVEL / 2 / n_steps)


def paired_change(difference: Sequence[float]) -> Change:
    """Whether the level of loss(annealed) − loss(control), one value per optimiser step in nats, shifts suddenly."""
    whole: Floats = np.asarray(difference, dtype=np.float64)
    n_steps = len(whole)
    if n_steps < MIN_STEPS:
        return Change("not_measured", "too_few_steps", n_steps)
    if not np.isfinite(whole).all():
        return Change("not_measured", "not_finite", n_steps)
    n_per_point = math.ceil(n_steps / MOST_POINTS)
    points = whole[: n_steps // n_per_point * n_per_point].reshape(-1, n_per_point).mean(axis=1)
    if np.median(np.abs(np.diff(points))) < ROUNDING:
        return Change("not_measured", "zero_variance", n_steps)
    found = _largest_shift(points)
    critical = critical_value(len(points))
    seen = found.statistic > critical
    return Change(
        outcome="observed" if seen else "not_observed",
        n_steps=n_steps,
        step=found.place * n_per_point + 1 if seen else None,
        size=found.size if seen else None,
        standard_error=found.standard_error if seen else None,
        statistic=found.statistic,
        critical=critical,
        noise=found.noise,
    )


def transition(differences: Mapping[str, Sequence[Sequence[float] | None]]) -> Transition:
    """The verdict from control ("lora", "fixed") -> one series of differences per data order (None: it did not run).

    Claimed only if, against both controls, on at least three data orders and at least half of them, the pair changes at
    one step (within the tolerance) and in one direction per control.
    """
    pairs = {
        control: tuple(
            Change("not_measured", "no_control") if series is None else paired_change(series)
            for series in differences.get(control, ())
        )
        for control in CONTROLS
    }
    orders = list(zip(*pairs.values(), strict=False))
    measured = [order for order in orders if all(change.outcome != "not_measured" for change in order)]
    if len(measured) < MIN_ORDERS:
        return Transition("not_measured", _why(pairs), len(measured), 0, None, None, {}, pairs)
    tolerance = max(MIN_TOLERANCE, round(TOLERANCE * max(change.n_steps for change in measured[0])))
    agreeing = _largest_agreement(measured, tolerance)
    if len(agreeing) < max(MIN_ORDERS, math.ceil(len(measured) / 2)):
        return Transition("not_observed", "", len(measured), len(agreeing), None, None, {}, pairs)
    sizes = {control: float(np.mean([order[i].size for order in agreeing])) for i, control in enumerate(CONTROLS)}
    step = round(float(np.median([_step(change) for order in agreeing for change in order])))
    return Transition("observed", "", len(measured), len(agreeing), step, tolerance, sizes, pairs)


_Order = tuple[Change, ...]


def _why(pairs: Mapping[str, tuple[Change, ...]]) -> Reason:
    """Why fewer than three data orders could be judged."""
    if not all(pairs.values()):
        return "no_control"
    spoilt = [change.reason for changes in pairs.values() for change in changes if change.reason]
    return spoilt[0] if spoilt else "too_few_orders"


def _largest_agreement(orders: list[_Order], tolerance: int) -> list[_Order]:
    """The most orders whose changes all lie within `tolerance` of one step, with one sign per control."""
    fired = [order for order in orders if all(change.outcome == "observed" for change in order)]
    groups = []
    for first in fired:
        for place in {_step(change) for change in first}:
            groups.append(
                [
                    order
                    for order in fired
                    if all(abs(_step(change) - place) <= tolerance for change in order)
                    and _signs(order) == _signs(first)
                ]
            )
    return max(groups, key=len, default=[])


def _step(change: Change) -> int:
    assert change.step is not None
    return change.step


def _signs(order: _Order) -> list[bool]:
    return [change.size is not None and change.size > 0 for change in order]


@dataclass(frozen=True)
class _Shift:
    """The likeliest shift: `place` is the index of the first value of the new level."""

    statistic: float
    place: int
    size: float
    standard_error: float
    noise: float


def _largest_shift(d: Floats) -> _Shift:
    """The place and length at which a shift of the level gains most likelihood; n values -> one shift.

    It must also stand up to noise of one size before and another after: where noise and drift set in together, their
    first strides from the quiet level would look like a shift to the smooth scale.
    """
    e = np.diff(d)
    lengths = sorted({1, math.ceil(LONGEST_SHIFT * len(d))})
    edge = max(MIN_EDGE, math.ceil(EDGE * len(d)))
    evidence = _Evidence(e, _noise_scale(e))
    found = [(length, evidence.statistics(length)) for length in lengths]
    candidates = [(length, _inner_maximum(statistics, length, edge, len(d))) for length, statistics in found]
    length, place = max(candidates, key=lambda c: float(dict(found)[c[0]][c[1]]))
    shift = evidence.shift(length, place)
    abrupt = _Evidence(e, _two_scales(e, place, length)).statistics(length)
    near = abrupt[max(place - _NEAR, 0) : place + _NEAR + 1]
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
        self._plain = float(self._likelihood(self._rest[:, None]).max())

    def statistics(self, length: int) -> Floats:
        """√(2 · gain in log-likelihood) at every place, (n − length + 1,); normal in size where λ is known."""
        gain = self._likelihood(self._fit(length)[2]).max(axis=0) - self._plain
        return np.sqrt(2 * np.maximum(gain, 0))

    def shift(self, length: int, place: int) -> _Shift:
        """The shift at one place."""
        hit, weight, left = (array[:, place] for array in self._fit(length))
        drift = int(self._likelihood(left[:, None]).argmax())
        variance = left[drift] / (self._n - 1)
        return _Shift(
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
    before, after = (max(float(np.median(part)), ROUNDING) for part in (size[:place], size[place + length :]))
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
