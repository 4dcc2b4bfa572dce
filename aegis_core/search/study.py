"""An Optuna study that a kill cannot hurt, that several machines may share, and whose result depends on its seed alone.

Every trial has a position (0, 1, …; see ledger.py), from which its draws are seeded (sampler.py). A trial
that a kill left RUNNING is marked FAIL, does not count, and its position is tried again with the same parameters: the
study ends as if nothing had happened.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from ..context import StepContext
from ..events import Progress, TrialFinished, TrialRunning, note
from ..failures import UserError
from ..run_directory import write_json
from .importance import importances
from .ledger import BOOKKEEPING, DRAWN, Ledger
from .sampler import SeededTPE
from .storage import opened_storage
from .workers import PULSE, beating

REASON, CURVE, SECONDS = "reason", "curve", "seconds"
LONGEST_CURVE = 200
_WAITING_SECONDS = 0.5

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Tried:
    """What an objective measured; `curve` is for drawing, `notes` are kept with the trial."""

    value: float
    curve: tuple[float, ...] = ()
    notes: tuple[tuple[str, Any], ...] = ()


class TrialFailed(Exception):
    """This trial has no score (NaN, out of memory, settings that cannot work); the study goes on."""


@dataclass(frozen=True)
class Voice:
    """How a trial that takes its time is heard of: `part` of it that is done, 0 … 1, and its `readings` so far."""

    part: Callable[[float], None]
    readings: Callable[[tuple[float, ...]], None]


@dataclass(frozen=True)
class StudyPlan:
    """`suggest` draws a trial's parameters, `objective` measures them (it may raise TrialFailed or optuna's TrialPruned
    after trial.report). `joint` models parameters together; leave it off where some depend on others.

    The study ends after `n_trials`, or when its trials took `seconds` together. `place` is search.storage of the plan:
    where it is not empty, other runs with a study of the same name work at it as well.
    """

    name: str
    direction: Direction
    seed: int
    n_trials: int
    joint: bool
    suggest: Callable[[optuna.Trial], dict[str, Any]]
    objective: Callable[[optuna.Trial, dict[str, Any], Voice], Tried]
    pruner: optuna.pruners.BasePruner
    seconds: float = math.inf
    place: str = ""


@dataclass(frozen=True)
class Placed:
    """A trial that ended by itself, at its position in the study."""

    position: int
    trial: FrozenTrial


def run_study(plan: StudyPlan, ctx: StepContext) -> list[Placed]:
    """Bring the study to its end, continuing what is there; returns its trials by position.

    Emits TrialFinished for each, also for those of other workers, and Progress(unit "trials"); leaves trials.json and,
    unless it is kept elsewhere, study.db. Trials that were cut off are not returned.
    """
    path = ctx.folder / "study.db"
    with _opened(plan, path) as ledger:
        told = _begin(plan, ctx, ledger)
        while True:
            ctx.cancel.check()
            ledger.repeat_abandoned()
            ended = _tell_new(plan, ctx, ledger, told)
            over = len(ended) >= plan.n_trials or _seconds(ended) >= plan.seconds
            if over and not (plan.place and ledger.at_work()):
                break
            if over or ledger.is_all_taken():
                time.sleep(_WAITING_SECONDS)  # for those that others are at work at
                continue
            _run_next(ledger, plan, ctx, ended)
        write_json(ctx.folder / "trials.json", [_row(placed) for placed in ended])
    ctx.artifact(ctx.folder / "trials.json", evidence=True)  # the study itself may be opened elsewhere, and grow
    return ended


def best_of(ended: list[Placed], direction: Direction) -> Placed | None:
    """The best COMPLETE trial, the earliest of equals; None if there is none."""
    complete = [placed for placed in ended if placed.trial.state is TrialState.COMPLETE]
    sign = -1 if direction == "maximize" else 1
    return min(complete, key=lambda placed: sign * (placed.trial.value or 0.0), default=None)


def refuse_without_best(best: Placed | None, ended: list[Placed]) -> Placed:
    """The best trial; UserError if no trial came to a score."""
    if best is None:
        reasons = [placed.trial.user_attrs[REASON] for placed in ended if REASON in placed.trial.user_attrs]
        raise UserError(
            "None of the {n_trials} trials succeeded, so the study has no best settings: {problem}",
            "Shorten the sequences, narrow the search space, or switch the search off.",
            n_trials=len(ended),
            problem=reasons[-1] if reasons else "all were pruned.",
        )
    return best


def expected_trials(plan: StudyPlan, ended: list[Placed]) -> int:
    """How many trials there will be when it is over, as far as the time of those before tells."""
    if not ended or math.isinf(plan.seconds):
        return plan.n_trials
    left = max(0.0, plan.seconds - _seconds(ended)) / max(_seconds(ended) / len(ended), 1e-9)
    return max(len(ended), min(plan.n_trials, len(ended) + math.ceil(left)))


@contextmanager
def _opened(plan: StudyPlan, own: Path) -> Iterator[Ledger]:
    with opened_storage(plan.place, own) as storage:
        study = optuna.create_study(
            storage=storage,
            study_name=plan.name,
            direction=plan.direction,
            load_if_exists=True,
            pruner=plan.pruner,
        )
        shared = bool(plan.place)
        ledger = Ledger(study, storage, plan.n_trials, shared)
        study.sampler = SeededTPE(plan.seed, ledger.position_of, plan.n_trials, joint=plan.joint, shared=shared)
        yield ledger


def _begin(plan: StudyPlan, ctx: StepContext, ledger: Ledger) -> set[int]:
    """Say what is there; the positions that need not be told: a run's own log has them from the attempt before."""
    done = ledger.ended()
    if done:
        ctx.emit(
            note("The study continues after {n_done} of {n_trials} trials.", n_done=len(done), n_trials=plan.n_trials)
        )
    if plan.place:
        ctx.emit(note("The trials are shared with every run that searches the same in {place}.", place=plan.place))
    ctx.emit(Progress(len(done), plan.n_trials, "trials"))
    return set() if plan.place else set(done)


def _tell_new(plan: StudyPlan, ctx: StepContext, ledger: Ledger, told: set[int]) -> list[Placed]:
    """All trials that have ended, those told that were not yet."""
    ended = [Placed(position, trial) for position, trial in ledger.ended().items()]
    for n, placed in enumerate(ended):
        if placed.position not in told:
            told.add(placed.position)
            last = n == len(ended) - 1
            weights = importances(ledger.study) if last else {}
            ctx.emit(_event(placed, best_of(ended[: n + 1], plan.direction), weights))
            ctx.emit(Progress(len(ended), expected_trials(plan, ended), "trials"))
    return ended


def _run_next(ledger: Ledger, plan: StudyPlan, ctx: StepContext, ended: list[Placed]) -> None:
    asked = ledger.ask()
    if asked is None:
        return
    trial, position = asked
    total = expected_trials(plan, ended)

    pulse = beating(lambda count: trial.set_user_attr(PULSE, count)) if plan.place else nullcontext()
    try:
        with pulse:
            params = plan.suggest(trial)
            trial.set_user_attr(DRAWN, True)
            voice = Voice(
                part=lambda part: ctx.emit(Progress(len(ended) + part, total, "trials")),
                readings=lambda curve: ctx.emit(TrialRunning(position, params, curve)),
            )
            _measure(ledger, plan, trial, params, voice)
    except UpdateFinishedTrialError:
        # Silent for too long, it was given to somebody else, whose result counts.
        ctx.emit(note("Trial {number} was taken over by another worker.", number=position + 1))
    except BaseException:
        # Nothing is kept here, a stop and Ctrl+C included: whoever comes next begins with this trial.
        ledger.give_up(trial.number)
        raise


def _measure(ledger: Ledger, plan: StudyPlan, trial: optuna.Trial, params: dict[str, Any], voice: Voice) -> None:
    started = time.monotonic()
    value = None
    try:
        tried = plan.objective(trial, params, voice)
        state, value = TrialState.COMPLETE, tried.value
        trial.set_user_attr(CURVE, _thinned(tried.curve))
        for key, noted in tried.notes:
            trial.set_user_attr(key, noted)
    except optuna.TrialPruned:
        state = TrialState.PRUNED
    except TrialFailed as failure:
        state = TrialState.FAIL
        trial.set_user_attr(REASON, str(failure))
    trial.set_user_attr(SECONDS, time.monotonic() - started)
    ledger.study.tell(trial, value, state=state, skip_if_finished=True)


def _seconds(ended: list[Placed]) -> float:
    return float(sum(placed.trial.user_attrs.get(SECONDS, 0.0) for placed in ended))


def _event(placed: Placed, best: Placed | None, weights: dict[str, float]) -> TrialFinished:
    trial = placed.trial
    curve = trial.user_attrs.get(CURVE) or [value for _, value in sorted(trial.intermediate_values.items())]
    return TrialFinished(
        number=placed.position,
        state=trial.state.name,
        value=trial.value if trial.state is TrialState.COMPLETE else None,
        params=dict(trial.params),
        best_value=best.trial.value if best else None,
        reason=trial.user_attrs.get(REASON, ""),
        curve=tuple(curve),
        importances=weights,
    )


def _row(placed: Placed) -> dict[str, Any]:
    trial = placed.trial
    hidden = BOOKKEEPING | {CURVE, REASON}
    return {
        "number": placed.position,
        "state": trial.state.name,
        "value": trial.value if trial.state is TrialState.COMPLETE else None,
        "params": trial.params,
        "reason": trial.user_attrs.get(REASON, ""),
        "intermediate": {str(step): value for step, value in sorted(trial.intermediate_values.items())},
        **{key: value for key, value in trial.user_attrs.items() if key not in hidden},
    }


def _thinned(curve: tuple[float, ...]) -> list[float]:
    """At most LONGEST_CURVE points, first and last among them: enough to draw, little to store."""
    if len(curve) <= LONGEST_CURVE:
        return list(curve)
    last = len(curve) - 1
    return [curve[round(i * last / (LONGEST_CURVE - 1))] for i in range(LONGEST_CURVE)]
