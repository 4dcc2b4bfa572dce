"""Runs held against each other: their numbers in one table, and the settings in which they differ."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .command_line import flat
from .run_card import RunCard

MOST = 4
SMALLER_IS_BETTER = ("loss.",)
"""Beginnings of the rows in which the smallest number is the best; the others have no best."""

_READERS: dict[str, Callable[[RunCard], float | None]] = {
    "train.steps": lambda run: run.plan.train.steps if run.plan else None,
    "train.tokens": lambda run: run.numbers.trained_tokens,
    "train.seconds": lambda run: run.numbers.training_seconds,
    "train.alpha": lambda run: run.numbers.alpha,
    "chat.meaningful": lambda run: run.numbers.n_meaningful,
    "chat.answers": lambda run: run.numbers.n_answers,
    "chat.tokens_per_second": lambda run: run.numbers.tokens_per_second,
    "indicators.passed": lambda run: run.n_passed if run.verdicts else None,
}


@dataclass(frozen=True)
class SideBySide:
    """`numbers` and `settings` map a name to one value for each run, None where it was not measured.

    `same_text` says whether all held-out losses come from one text: None where a run does not say.
    """

    runs: tuple[RunCard, ...]
    numbers: Mapping[str, tuple[float | None, ...]]
    settings: Mapping[str, tuple[Any, ...]]
    same_text: bool | None

    def best(self, name: str) -> int | None:
        """Which run has the best number of a row, if there is one and the numbers can be compared."""
        values = self.numbers[name]
        known = [value for value in values if value is not None]
        if not name.startswith(SMALLER_IS_BETTER) or self.same_text is False or len(set(known)) < 2:
            return None
        return values.index(min(known))


def side_by_side(runs: Sequence[RunCard]) -> SideBySide:
    """Hold readable runs against each other, in the order given."""
    stages = list(dict.fromkeys(stage for run in runs for stage in run.numbers.losses))
    numbers: dict[str, tuple[float | None, ...]] = {
        f"loss.{stage}": tuple(run.numbers.losses.get(stage) for run in runs) for stage in stages
    }
    kinds = list(dict.fromkeys(kind for run in runs for kind in run.numbers.file_bytes))
    numbers |= {name: tuple(reader(run) for run in runs) for name, reader in _READERS.items()}
    numbers |= {f"bytes.{kind}": tuple(run.numbers.file_bytes.get(kind) for run in runs) for kind in kinds}
    told = {name: values for name, values in numbers.items() if any(value is not None for value in values)}
    return SideBySide(tuple(runs), told, _differing(runs), _same_text(runs))


def _differing(runs: Sequence[RunCard]) -> dict[str, tuple[Any, ...]]:
    plans = [flat(run.plan) for run in runs if run.plan]
    names = plans[0] if len(plans) == len(runs) and plans else {}
    return {name: values for name in names if _differ(values := tuple(plan[name] for plan in plans))}


def _differ(values: tuple[Any, ...]) -> bool:
    return any(value != values[0] for value in values)


def _same_text(runs: Sequence[RunCard]) -> bool | None:
    texts = {run.numbers.held_out for run in runs if run.numbers.losses}
    return None if "" in texts else len(texts) < 2
