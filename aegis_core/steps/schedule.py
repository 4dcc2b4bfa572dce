"""Search the alpha schedule that arrives early without jumping. Pure arithmetic: no model, milliseconds per trial."""

from typing import Any

import optuna

from .. import plan as plans
from ..context import StepContext
from ..events import Log, Metric, Progress, note, warning
from ..failures import UserError
from ..plan import Plan
from ..run_directory import sha256_of_json, write_json
from ..sealed import read_sealed, sealed
from ..search.applying import changes_of
from ..search.sampler import n_startup_trials
from ..search.schedule_space import suggest
from ..search.score import score
from ..search.space import token_budget, trial_plan
from ..search.study import Placed, StudyPlan, TrialFailed, Tried, Voice, best_of, refuse_without_best, run_study
from ..soul import schedule

TRIED, PRESENT = "tried.json", "present.json"


def run(plan: Plan, ctx: StepContext) -> None:
    """Leaves trials.json and best.json, and study.db unless it is kept elsewhere; UserError if none tried converges.

    With schedule.try_best the best of them and the present one are trained with for a short while, and the held-out
    loss decides. A present schedule that none beats is kept.
    """
    if plan.soul.alpha_start == plan.soul.alpha_target:
        raise UserError(
            "Alpha starts at its target {target}, so there is no schedule to search.",
            "Change soul.alpha_start or switch the schedule search off.",
            target=plan.soul.alpha_target,
        )
    present = _present(plan, ctx)
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
    finalists = _finalists(ended, plan.schedule.try_best)
    trained = _trained(plan, ctx, finalists, present) if finalists else []
    losses = {row["number"]: row["loss"] for row in trained if row["loss"] is not None}
    scored = [placed for placed in finalists if placed.position in losses]
    if scored:
        best = min(scored, key=lambda placed: losses[placed.position])
        is_better = None not in losses or losses[best.position] < losses[None]
    else:
        is_better = float(best.trial.value or 0.0) > present["value"]
    _leave(plan, ctx, best, present, trained, is_better)


def _present(plan: Plan, ctx: StepContext) -> dict[str, Any]:
    """The schedule before the search: {settings, value, converged}.

    Judged once: when the search goes on, the plan may already hold what it found.
    """
    path = ctx.folder / PRESENT
    if not path.is_file():
        judgement = judged(plan, {})
        settings = {f"soul.schedule.{name}": value for name, value in plan.soul.schedule.model_dump().items()}
        converged = dict(judgement.notes)["converged"]
        write_json(path, sealed({"settings": settings, "value": judgement.value, "converged": converged}))
    ctx.artifact(path, evidence=True)
    row = read_sealed(path)
    ctx.emit(Metric("present_score", 0, row["value"]))
    return row


def _study(plan: Plan) -> StudyPlan:
    def objective(trial: optuna.Trial, params: dict[str, Any], voice: Voice) -> Tried:
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


def _trained(plan: Plan, ctx: StepContext, finalists: list[Placed], present: dict[str, Any]) -> list[dict[str, Any]]:
    """Their losses after a short real training each, and that of the present schedule, whose number is None:
    [{number, score, loss, reason, tokens}], a loss that could not be had being None.

    tried.json keeps every one that is done; a later attempt takes it from there.
    """
    from ..search.short_run import ShortRuns  # loads torch, which the search by score does without

    path = ctx.folder / TRIED
    kept = {row["number"]: row for row in (read_sealed(path)["rows"] if path.is_file() else [])}
    n_tokens = token_budget(plan, plan.schedule.tokens_per_trial, (plan.train.batch_size,))
    candidates: list[tuple[int | None, float, dict[str, Any]]] = [
        (placed.position, float(placed.trial.value or 0.0), changes_of("schedule", placed.trial.params))
        for placed in finalists
    ]
    candidates.append((None, present["value"], present["settings"]))
    runs: ShortRuns | None = None
    for i, (number, value, changes) in enumerate(candidates):
        if kept.get(number, {}).get("planned") == n_tokens:
            continue
        ctx.emit(Progress(i, len(candidates), "schedules", "trying the best"))
        runs = runs or ShortRuns.of(plan, ctx)
        row: dict[str, Any] = {"number": number, "score": value, "planned": n_tokens}
        try:
            result = runs.tried(trial_plan(plans.changed(plan, changes), {}, n_tokens))
            kept[number] = row | {"loss": result.value, "reason": "", **dict(result.notes)}
        except TrialFailed as failure:
            kept[number] = row | {"loss": None, "reason": str(failure)}
        write_json(path, sealed({"rows": list(kept.values())}))
    ctx.emit(Progress(len(candidates), len(candidates), "schedules", "trying the best"))
    ctx.artifact(path, evidence=True)
    rows = [kept[number] for number, _, _ in candidates]
    for row in rows:
        ctx.emit(_said(row))
    return rows


def _said(row: dict[str, Any]) -> Log:
    shown = {
        "score": f"{row['score']:.4f}",
        "loss": "–" if row["loss"] is None else f"{row['loss']:.4f}",
        "n_tokens": row.get("tokens", 0),
    }
    if row["number"] is None:
        return note("The present schedule: score {score}, held-out loss {loss} after {n_tokens} tokens.", **shown)
    return note(
        "Schedule {number}: score {score}, held-out loss {loss} after {n_tokens} tokens.",
        number=row["number"] + 1,
        **shown,
    )


def _leave(
    plan: Plan,
    ctx: StepContext,
    best: Placed,
    present: dict[str, Any],
    trained: list[dict[str, Any]],
    is_better: bool,
) -> None:
    params, value = best.trial.params, float(best.trial.value or 0.0)
    row = {
        "changes": changes_of("schedule", params) if is_better else {},
        "number": best.position,
        "value": value,
        "params": params,
        "n_random": n_startup_trials(plan.schedule.n_trials),
        "present": present,
        "tried": trained,
    }
    write_json(ctx.folder / "best.json", row)
    ctx.artifact(ctx.folder / "best.json", evidence=True)
    ctx.emit(note("Best schedule: {kind}, score {score}.", kind=params["kind"], score=f"{value:.4f}"))
    before = f"{present['value']:.4f}"
    if is_better:
        ctx.emit(note("The present schedule scores {score}.", score=before))
    else:
        ctx.emit(warning("The present schedule scores {score}; none that was tried is better: it stays.", score=before))


def judged(plan: Plan, params: dict[str, Any]) -> Tried:
    """The score of one schedule under this plan's steps and alphas, with its curve."""
    soul = plans.changed(plan, {f"soul.schedule.{name}": value for name, value in params.items()}).soul
    alphas = schedule.curve(plan.train.steps, soul)
    result = score(alphas, soul.alpha_target, plan.schedule.smoothness_weight)
    notes = (("converged", result.converged), ("settled_at", result.settled_at), ("largest_stride", result.stride))
    return Tried(result.value, tuple(alphas), notes)
