"""Search learning rate, batch size and warm-ups by short real training runs, each on the same number of tokens."""

import math
from typing import Any

import optuna

from ..context import StepContext
from ..events import note, warning
from ..failures import UserError
from ..models.identity import read_base
from ..plan import Plan
from ..run_directory import sha256_of_file, sha256_of_json, write_json
from ..search.applying import changes_of
from ..search.comparison import PRESENT, REPEATS, present_settings, repeated
from ..search.sampler import n_startup_trials
from ..search.short_run import ShortRuns
from ..search.space import suggest, token_budget, trial_plan
from ..search.study import Placed, StudyPlan, TrialFailed, Tried, Voice, best_of, refuse_without_best, run_study

_NOT_SHARED = ("enabled", "apply", "n_trials", "minutes", "compare", "repeats", "storage")
FEWEST_OTHERS = 6
_GLANCE_PERCENT = 25  # see short_run.QUARTERS


def run(plan: Plan, ctx: StepContext) -> None:
    """Leaves trials.json and best.json, and study.db unless the study is kept elsewhere; UserError if no trial
    completes.

    Both files tell the tokens a trial really read, counted step by step.
    """
    n_tokens = token_budget(plan, plan.search.tokens_per_trial, plan.search.batch_sizes)
    runs = ShortRuns.of(plan, ctx)

    def train(trial: Plan) -> Tried:
        return runs.tried(trial)

    present = present_settings(plan, ctx, n_tokens, train) if plan.search.compare or plan.search.repeats else None
    ended = run_study(_study(plan, ctx, runs, n_tokens), ctx)
    best = refuse_without_best(best_of(ended, "minimize"), ended)
    rows = repeated(plan, ctx, best, present, n_tokens, train) if present else []
    _leave(plan, ctx, best, present, rows)


def _study(plan: Plan, ctx: StepContext, runs: ShortRuns, n_tokens: int) -> StudyPlan:
    def objective(trial: optuna.Trial, params: dict[str, Any], voice: Voice) -> Tried:
        try:
            tried_plan = trial_plan(plan, params, n_tokens)
        except UserError as error:  # settings that do not go together, such as a warm-up beyond the end of the schedule
            raise TrialFailed(error.reason) from error
        readings: list[float] = []
        voice.readings(())

        def on_glance(percent: int, loss: float) -> None:
            trial.report(loss, percent)
            readings.append(loss)
            voice.readings(tuple(readings))
            if percent < 100 and trial.should_prune():  # at the end the whole held-out set is asked
                raise optuna.TrialPruned

        return runs.tried(tried_plan, voice.part, on_glance)

    return StudyPlan(
        name=_name(plan, ctx) if plan.search.storage else "search",
        direction="minimize",
        seed=plan.search.seed,
        n_trials=plan.search.n_trials,
        joint=True,
        suggest=lambda trial: suggest(trial, plan.search),
        objective=objective,
        pruner=_pruner(plan),
        seconds=60 * plan.search.minutes if plan.search.minutes else math.inf,
        place=plan.search.storage,
    )


def _pruner(plan: Plan) -> optuna.pruners.BasePruner:
    if plan.search.pruner == "off":
        return optuna.pruners.NopPruner()
    if plan.search.pruner == "successive_halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=_GLANCE_PERCENT, reduction_factor=3)
    # The median of a few others is no measure: a short study would cut nearly all of its trials short. One of six
    # trials cuts none, and has them all to say what matters (see importance.py).
    return optuna.pruners.MedianPruner(n_startup_trials=max(FEWEST_OTHERS, n_startup_trials(plan.search.n_trials)))


def _name(plan: Plan, ctx: StepContext) -> str:
    """The same on every machine that searches the same: space, training settings, base model and data decide."""
    prepared = ctx.run.step_folder("prepare")
    space = plan.search.model_dump(mode="json", exclude=set(_NOT_SHARED))
    training = plan.model_dump(mode="json", include={"lora", "soul", "train"})
    files = [sha256_of_file(prepared / name) for name in ("train.safetensors", "held_out.safetensors")]
    return f"aegis-search-{sha256_of_json([space, training, read_base(ctx.run).sha256, files])[:16]}"


def _leave(
    plan: Plan, ctx: StepContext, best: Placed, present: dict[str, Any] | None, repeats: list[dict[str, Any]]
) -> None:
    """best.json; settings that came to a lower loss before the search are left as they are."""
    value, trial = float(best.trial.value or 0.0), best.trial
    before = present["value"] if present else None
    is_better = before is None or value < before
    row = {
        "changes": changes_of("search", trial.params) if is_better else {},
        "number": best.position,
        "params": trial.params,
        "value": value,
        "n_random": n_startup_trials(plan.search.n_trials),
        "tokens": trial.user_attrs["tokens"],
        "present": present,
        "better_by": None if before is None else before - value,
        "repeats": repeats,
    }
    write_json(ctx.folder / "best.json", row)
    for name in ("best.json", PRESENT, REPEATS):
        if (ctx.folder / name).is_file():
            ctx.artifact(ctx.folder / name, evidence=True)
    ctx.emit(note("Best held-out loss {loss} in trial {number}.", loss=f"{value:.4f}", number=best.position + 1))
    if before is None:
        return
    shown = f"{before:.4f}"
    if is_better:
        gain = f"{before - value:.4f}"
        ctx.emit(note("The present settings came to {loss}: the search gains {gain} nats.", loss=shown, gain=gain))
    else:
        ctx.emit(warning("The present settings came to {loss}, which no trial beat: they are kept.", loss=shown))
