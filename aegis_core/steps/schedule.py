"""Search the alpha schedule that arrives early without jumping. Pure arithmetic: no model, milliseconds per trial."""

from typing import Any

import optuna

from .. import plan as plans
from ..context import StepContext
from ..events import note
from ..failures import UserError
from ..plan import Plan
from ..run_directory import write_json
from ..search.score import score
from ..search.study import StudyPlan, Tried, best_of, refuse_without_best, run_study
from ..soul import schedule

KINDS = ("linear", "sigmoid", "cosine", "exponential", "two_phase")
STEEP_KINDS = ("sigmoid", "exponential")  # the others have no steepness


def run(plan: Plan, ctx: StepContext) -> None:
    """Leaves study.db, trials.json and best.json; UserError if no schedule tried converges."""
    if plan.soul.alpha_start == plan.soul.alpha_target:
        raise UserError(
            "Alpha starts at its target {target}, so there is no schedule to search.",
            "Change soul.alpha_start or switch the schedule search off.",
            target=plan.soul.alpha_target,
        )

    def objective(trial: optuna.Trial, params: dict[str, Any]) -> Tried:
        return judged(plan, params)

    trials = run_study(
        StudyPlan(
            name="schedule",
            direction="maximize",
            seed=plan.schedule.seed,
            n_trials=plan.schedule.n_trials,
            joint=False,  # steepness exists for some kinds only
            suggest=suggest,
            objective=objective,
            pruner=optuna.pruners.NopPruner(),
        ),
        ctx,
    )
    best = refuse_without_best(best_of(trials, "maximize"), trials)
    if not best.user_attrs["converged"]:
        raise UserError(
            "None of the {n_trials} schedules tried brings alpha to {target} smoothly within {n_steps} steps.",
            "Allow more trials or more training steps; the default schedule needs no search.",
            n_trials=len(trials),
            target=f"{plan.soul.alpha_target:.4g}",
            n_steps=plan.train.steps,
        )
    changes = {f"soul.schedule.{name}": value for name, value in best.params.items()}
    write_json(ctx.folder / "best.json", {"changes": changes, "value": best.value, "params": best.params})
    ctx.artifact(ctx.folder / "best.json")
    ctx.emit(note("Best schedule: {kind}, score {score}.", kind=best.params["kind"], score=f"{best.value:.4f}"))


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
