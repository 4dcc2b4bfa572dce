"""Search the alpha schedule that arrives early without jumping. Pure arithmetic: no model, milliseconds per trial."""

from collections.abc import Callable
from typing import Any

import optuna

from .. import plan as plans
from ..context import StepContext
from ..events import Progress, note
from ..failures import UserError
from ..plan import Plan
from ..run_directory import read_json, sha256_of_json, write_json
from ..search.applying import changes_of
from ..search.score import score
from ..search.space import token_budget, trial_plan
from ..search.study import Placed, StudyPlan, TrialFailed, Tried, best_of, refuse_without_best, run_study
from ..soul import schedule

TRIED = "tried.json"
KINDS = ("linear", "sigmoid", "cosine", "exponential", "two_phase")
STEEP_KINDS = ("sigmoid", "exponential")  # the others have no steepness


def run(plan: Plan, ctx: StepContext) -> None:
    """Leaves trials.json and best.json, and study.db unless it is kept elsewhere; UserError if none tried converges.

    With schedule.try_best the best of them are trained with for a short while, and the held-out loss decides.
    """
    if plan.soul.alpha_start == plan.soul.alpha_target:
        raise UserError(
            "Alpha starts at its target {target}, so there is no schedule to search.",
            "Change soul.alpha_start or switch the schedule search off.",
            target=plan.soul.alpha_target,
        )
    ended = run_study(_study(plan), ctx)
    best = refuse_without_best(best_of(ended, "maximize"), ended)
    if not best.trial.user_attrs["converged"]:
        raise UserError(
            "None of the {n_trials} schedules tried brings alpha to {target} smoothly within {n_steps} steps.",
            "Allow more trials or more training steps; the default schedule needs no search.",
            n_trials=len(ended),
            target=f"{plan.soul.alpha_target:.4g}",
            n_steps=plan.train.steps,
        )
    trained = _trained(plan, ctx, _finalists(ended, plan.schedule.try_best)) if plan.schedule.try_best else []
    if trained:
        winner = min(trained, key=lambda row: row["loss"])["number"]
        best = next(placed for placed in ended if placed.position == winner)
    _leave(ctx, best, trained)


def _study(plan: Plan) -> StudyPlan:
    def objective(trial: optuna.Trial, params: dict[str, Any], on_part: Callable[[float], None]) -> Tried:
        return judged(plan, params)

    return StudyPlan(
        name=_name(plan) if plan.schedule.storage else "schedule",
        direction="maximize",
        seed=plan.schedule.seed,
        n_trials=plan.schedule.n_trials,
        joint=False,  # steepness exists for some kinds only
        suggest=suggest,
        objective=objective,
        pruner=optuna.pruners.NopPruner(),
        place=plan.schedule.storage,
    )


def _name(plan: Plan) -> str:
    """The same on every machine that searches the same."""
    soul, search = plan.soul, plan.schedule
    decisive = [plan.train.steps, soul.alpha_start, soul.alpha_target, search.smoothness_weight, search.seed]
    return f"aegis-schedule-{sha256_of_json(decisive)[:16]}"


def _finalists(ended: list[Placed], n: int) -> list[Placed]:
    """The `n` best converged schedules, the earliest of equals first."""
    converged = [placed for placed in ended if placed.trial.user_attrs.get("converged")]
    return sorted(converged, key=lambda placed: -(placed.trial.value or 0.0))[:n]


def _trained(plan: Plan, ctx: StepContext, finalists: list[Placed]) -> list[dict[str, Any]]:
    """Their losses after a short real training each, as far as one came to a score: [{number, score, loss, tokens}].

    tried.json keeps every one that is done; a later attempt takes it from there.
    """
    from ..search.short_run import ShortRuns  # loads torch, which the search by score does without

    path = ctx.folder / TRIED
    kept = {row["number"]: row for row in (read_json(path) if path.is_file() else [])}
    n_tokens = token_budget(plan, plan.schedule.tokens_per_trial, (plan.train.batch_size,))
    runs: ShortRuns | None = None
    for i, placed in enumerate(finalists):
        if kept.get(placed.position, {}).get("planned") == n_tokens:
            continue
        ctx.emit(Progress(i, len(finalists), "schedules", "trying the best"))
        runs = runs or ShortRuns.of(plan, ctx)
        tried = trial_plan(plans.changed(plan, changes_of("schedule", placed.trial.params)), {}, n_tokens)
        row: dict[str, Any] = {"number": placed.position, "score": placed.trial.value, "planned": n_tokens}
        try:
            result = runs.tried(tried)
            kept[placed.position] = row | {"loss": result.value, "reason": "", **dict(result.notes)}
        except TrialFailed as failure:
            kept[placed.position] = row | {"loss": None, "reason": str(failure)}
        write_json(path, list(kept.values()))
    ctx.emit(Progress(len(finalists), len(finalists), "schedules", "trying the best"))
    ctx.artifact(path, evidence=True)
    rows = [kept[placed.position] for placed in finalists]
    for row in rows:
        ctx.emit(
            note(
                "Schedule {number}: score {score}, held-out loss {loss} after {n_tokens} tokens.",
                number=row["number"] + 1,
                score=f"{row['score']:.4f}",
                loss="–" if row["loss"] is None else f"{row['loss']:.4f}",
                n_tokens=row.get("tokens", 0),
            )
        )
    return [row for row in rows if row["loss"] is not None]


def _leave(ctx: StepContext, best: Placed, trained: list[dict[str, Any]]) -> None:
    params, value = best.trial.params, float(best.trial.value or 0.0)
    row = {
        "changes": changes_of("schedule", params),
        "number": best.position,
        "value": value,
        "params": params,
        "tried": trained,
    }
    write_json(ctx.folder / "best.json", row)
    ctx.artifact(ctx.folder / "best.json", evidence=True)
    ctx.emit(note("Best schedule: {kind}, score {score}.", kind=params["kind"], score=f"{value:.4f}"))


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """Settings of soul.schedule; the ranges include schedules that jump or come late."""
    kind = trial.suggest_categorical("kind", KINDS)
    params: dict[str, Any] = {
        "kind": kind,
        "warmup_fraction": trial.suggest_float("warmup_fraction", 0.0, 0.4),
        "end_fraction": trial.suggest_float("end_fraction", 0.5, 1.0),
    }
    if kind in STEEP_KINDS:
        params["steepness"] = trial.suggest_float("steepness", 2.0, 40.0)
    return params


def judged(plan: Plan, params: dict[str, Any]) -> Tried:
    """The score of one schedule under this plan's steps and alphas, with its curve."""
    soul = plans.changed(plan, {f"soul.schedule.{name}": value for name, value in params.items()}).soul
    alphas = schedule.curve(plan.train.steps, soul)
    result = score(alphas, soul.alpha_target, plan.schedule.smoothness_weight)
    notes = (("converged", result.converged), ("settled_at", result.settled_at), ("largest_stride", result.stride))
    return Tried(result.value, tuple(alphas), notes)
