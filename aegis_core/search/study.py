"""An Optuna study in one SQLite file that a kill cannot hurt, and whose result depends on its seed alone.

Every trial has a position (0, 1, …). Its sampler is seeded from study seed and position, because a restarted sampler
would repeat its first draws. A trial that a kill left RUNNING is marked FAIL, does not count, and its position is tried
again with the same parameters: the study ends as if nothing had happened.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy
import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL

from ..context import StepContext
from ..events import Progress, TrialFinished, note
from ..failures import UserError
from ..run_directory import write_json

POSITION, REPEATS, REASON, CURVE = "position", "repeats", "reason", "curve"
LONGEST_CURVE = 200

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
class StudyPlan:
    """`suggest` draws a trial's parameters, `objective` measures them (it may raise TrialFailed or optuna's TrialPruned
    after trial.report). `joint` models parameters together; leave it off where some depend on others."""

    name: str
    direction: Direction
    seed: int
    n_trials: int
    joint: bool
    suggest: Callable[[optuna.Trial], dict[str, Any]]
    objective: Callable[[optuna.Trial, dict[str, Any]], Tried]
    pruner: optuna.pruners.BasePruner


def run_study(plan: StudyPlan, ctx: StepContext) -> list[FrozenTrial]:
    """Bring the study in ctx.folder/study.db to `n_trials` trials, continuing what is there; returns those trials.

    Emits TrialFinished and Progress(unit "trials") for each; leaves trials.json. Interrupted trials are not returned.
    """
    path = ctx.folder / "study.db"
    with opened(path, plan.name, plan.direction) as study:
        study.pruner = plan.pruner
        _repeat_interrupted(study)
        finished = finished_trials(study)
        if finished:
            ctx.emit(
                note(
                    "The study continues after {n_done} of {n_trials} trials.",
                    n_done=len(finished),
                    n_trials=plan.n_trials,
                )
            )
        ctx.emit(Progress(len(finished), plan.n_trials, "trials"))
        while len(finished) < plan.n_trials:
            ctx.cancel.check()
            _run_next(study, plan, position=len(finished))
            finished = finished_trials(study)
            ctx.emit(_event(finished[-1], best_of(finished, plan.direction)))
            ctx.emit(Progress(len(finished), plan.n_trials, "trials"))
        write_json(ctx.folder / "trials.json", [_row(trial) for trial in finished])
    ctx.artifact(path)
    ctx.artifact(ctx.folder / "trials.json")
    return finished


@contextmanager
def opened(path: Path, name: str, direction: Direction) -> Iterator[optuna.Study]:
    """The study in this SQLite file, made if it is not there; closed afterwards (Windows cannot move an open file)."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = URL.create("sqlite", database=path.as_posix()).render_as_string(hide_password=False)
    storage = optuna.storages.RDBStorage(url)
    try:
        yield optuna.create_study(storage=storage, study_name=name, direction=direction, load_if_exists=True)
    finally:
        storage.remove_session()
        storage.engine.dispose()


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that came to an end by themselves, in order; those cut off by a kill were or will be repeated."""
    repeated = _repeated(study)
    ended = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    return [trial for trial in ended if POSITION in trial.user_attrs and trial.number not in repeated]


def best_of(trials: list[FrozenTrial], direction: Direction) -> FrozenTrial | None:
    """The best COMPLETE trial, the earliest of equals; None if there is none."""
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    sign = -1 if direction == "maximize" else 1
    return min(complete, key=lambda trial: sign * (trial.value or 0.0), default=None)


def seed_of(study_seed: int, position: int) -> int:
    """A trial's own seed: well mixed, so that neighbouring studies and trials share no draws."""
    return int(numpy.random.SeedSequence([study_seed, position]).generate_state(1)[0])


def n_startup_trials(n_trials: int) -> int:
    """How many random trials come first: few enough that a short study is more than random search."""
    return min(10, max(2, n_trials // 3))


def _repeat_interrupted(study: optuna.Study) -> None:
    """Put every trial that a kill left RUNNING back into the queue, exactly once even if killed again right here."""
    repeated = _repeated(study)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        # Without a position not all parameters had been drawn; the same seed draws them again.
        if POSITION in trial.user_attrs and trial.number not in repeated:
            study.enqueue_trial(trial.params, user_attrs={REPEATS: trial.number})
        study.tell(trial.number, state=TrialState.FAIL)


def _repeated(study: optuna.Study) -> set[int]:
    """Numbers of the trials that were put into the queue once more."""
    return {trial.user_attrs[REPEATS] for trial in study.get_trials(deepcopy=False) if REPEATS in trial.user_attrs}


def _run_next(study: optuna.Study, plan: StudyPlan, position: int) -> None:
    study.sampler = optuna.samplers.TPESampler(
        seed=seed_of(plan.seed, position),
        n_startup_trials=n_startup_trials(plan.n_trials),
        multivariate=plan.joint,
        constant_liar=False,
    )
    trial = study.ask()
    params = plan.suggest(trial)
    trial.set_user_attr(POSITION, position)
    started = time.monotonic()
    try:
        tried = plan.objective(trial, params)
    except optuna.TrialPruned:
        _finish(study, trial, TrialState.PRUNED, started)
    except TrialFailed as failure:
        trial.set_user_attr(REASON, str(failure))
        _finish(study, trial, TrialState.FAIL, started)
    else:
        trial.set_user_attr(CURVE, _thinned(tried.curve))
        for key, value in tried.notes:
            trial.set_user_attr(key, value)
        _finish(study, trial, TrialState.COMPLETE, started, tried.value)


def _finish(
    study: optuna.Study, trial: optuna.Trial, state: TrialState, started: float, value: float | None = None
) -> None:
    trial.set_user_attr("seconds", time.monotonic() - started)
    study.tell(trial, value, state=state)


def _event(trial: FrozenTrial, best: FrozenTrial | None) -> TrialFinished:
    curve = trial.user_attrs.get(CURVE) or [value for _, value in sorted(trial.intermediate_values.items())]
    return TrialFinished(
        number=trial.user_attrs[POSITION],
        state=trial.state.name,
        value=trial.value if trial.state is TrialState.COMPLETE else None,
        params=dict(trial.params),
        best_value=best.value if best else None,
        reason=trial.user_attrs.get(REASON, ""),
        curve=tuple(curve),
    )


def _row(trial: FrozenTrial) -> dict[str, Any]:
    attributes = {
        key: value for key, value in trial.user_attrs.items() if key not in (POSITION, REPEATS, CURVE, REASON)
    }
    return {
        "number": trial.user_attrs[POSITION],
        "state": trial.state.name,
        "value": trial.value if trial.state is TrialState.COMPLETE else None,
        "params": trial.params,
        "reason": trial.user_attrs.get(REASON, ""),
        "intermediate": {str(step): value for step, value in sorted(trial.intermediate_values.items())},
        **attributes,
    }


def _thinned(curve: tuple[float, ...]) -> list[float]:
    """At most LONGEST_CURVE points, first and last among them: enough to draw, little to store."""
    if len(curve) <= LONGEST_CURVE:
        return list(curve)
    last = len(curve) - 1
    return [curve[round(i * last / (LONGEST_CURVE - 1))] for i in range(LONGEST_CURVE)]


def refuse_without_best(best: FrozenTrial | None, trials: list[FrozenTrial]) -> FrozenTrial:
    """The best trial; UserError if no trial came to a score."""
    if best is None:
        reasons = [trial.user_attrs[REASON] for trial in trials if REASON in trial.user_attrs]
        raise UserError(
            "None of the {n_trials} trials succeeded, so the study has no best settings: {problem}",
            "Shorten the sequences, narrow the search space, or switch the search off.",
            n_trials=len(trials),
            problem=reasons[-1] if reasons else "all were pruned.",
        )
    return best
