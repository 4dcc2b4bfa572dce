"""A study's trials as the plots need them: ranked, on common scales, failures set apart. Pure arithmetic."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aegis_core.events import TrialFinished

LOGARITHMIC = ("learning_rate", "rotation_learning_rate")


@dataclass(frozen=True)
class Axis:
    """One parameter: its values lie between `low` and `high`, or are the words of `choices`."""

    name: str
    low: float = 0.0
    high: float = 1.0
    choices: tuple[Any, ...] = ()
    is_floored: bool = False  # what lies below `low` stands at the bottom as well

    def place(self, value: Any) -> float | None:
        """Where a value stands, 0 at the bottom and 1 at the top; None for one that has no place here."""
        if self.choices:
            if value not in self.choices:
                return None
            return self.choices.index(value) / (len(self.choices) - 1) if len(self.choices) > 1 else 0.5
        if not isinstance(value, int | float) or not math.isfinite(value):
            return None
        if self.is_floored and value < self.low:
            return 0.0
        if self.high == self.low:
            return 0.5
        if self.name in LOGARITHMIC and self.low > 0:
            return math.log(value / self.low) / math.log(self.high / self.low) if value > 0 else None
        return (value - self.low) / (self.high - self.low)


def is_poor(trial: TrialFinished, lower_is_better: bool) -> bool:
    """A run that was cut short, or a schedule that does not converge: those score nothing above zero."""
    if lower_is_better:
        return trial.state == "PRUNED"
    return trial.state == "COMPLETE" and not (trial.value or 0.0) > 0


def best_of(trials: Iterable[TrialFinished], lower_is_better: bool) -> TrialFinished | None:
    """The complete trial with the best value, the earliest of equals."""
    sign = 1 if lower_is_better else -1
    whole = [t for t in trials if t.state == "COMPLETE" and t.value is not None and math.isfinite(t.value)]
    return min(whole, key=lambda trial: sign * (trial.value or 0.0), default=None)


def best_so_far(trials: Sequence[TrialFinished], lower_is_better: bool) -> list[tuple[int, float]]:
    """(trial counted from 1, best value up to it), for every trial from the first complete one on."""
    better = min if lower_is_better else max
    found: list[tuple[int, float]] = []
    for trial in trials:
        value = trial.value if trial.state == "COMPLETE" else None
        if value is not None and math.isfinite(value):
            found.append((trial.number + 1, better(value, found[-1][1]) if found else value))
        elif found:
            found.append((trial.number + 1, found[-1][1]))
    return found


def axes_of(trials: Iterable[TrialFinished]) -> list[Axis]:
    """One axis for each parameter, in the order of their first appearance; few whole numbers and words are choices."""
    values: dict[str, list[Any]] = {}
    for trial in trials:
        for name, value in trial.params.items():
            values.setdefault(name, []).append(value)
    return [_axis(name, found) for name, found in values.items()]


def _axis(name: str, values: list[Any]) -> Axis:
    distinct = list(dict.fromkeys(values))
    if any(isinstance(value, str) for value in distinct) or name in ("batch_size", "rank"):
        return Axis(name, choices=tuple(sorted(distinct, key=lambda v: (isinstance(v, str), v))))
    numbers = [float(value) for value in distinct if isinstance(value, int | float) and math.isfinite(value)]
    return Axis(name, min(numbers, default=0.0), max(numbers, default=1.0))
