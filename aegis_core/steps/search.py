"""Search learning rate, batch size and warm-ups by short real training runs, each on the same number of tokens."""

import math
from typing import Any

import optuna

from .. import plan as plans
from ..context import StepContext
from ..data.packed import load_packed
from ..events import Progress, note
from ..failures import UserError
from ..models.identity import read_base
from ..models.loading import choose_dtype, load_model
from ..plan import Plan, SearchPlan
from ..run_directory import write_json
from ..search.short_run import ShortRuns
from ..search.study import (
    POSITION,
    StudyPlan,
    TrialFailed,
    Tried,
    best_of,
    n_startup_trials,
    refuse_without_best,
    run_study,
)
from ..training.trainer import StepReport

SETTINGS = {
    "learning_rate": "train.learning_rate",
    "batch_size": "train.batch_size",
    "warmup_steps": "train.warmup_steps",
    "alpha_warmup": "soul.schedule.warmup_fraction",
}


def run(plan: Plan, ctx: StepContext) -> None:
    """Leaves study.db, trials.json and best.json; UserError if no trial completes.

    Both files tell the tokens a trial really read, counted step by step.
    """
    n_tokens = token_budget(plan)

    prepared = ctx.run.step_folder("prepare")
    runs = ShortRuns(
        base=load_model(read_base(ctx.run).path, choose_dtype(plan.model.dtype)),
        data=load_packed(prepared / "train.safetensors"),
        held_out=load_packed(prepared / "held_out.safetensors"),
        cancel=ctx.cancel,
        folder=ctx.folder / "scratch",
    )

    def objective(trial: optuna.Trial, params: dict[str, Any]) -> Tried:
        try:
            tried_plan = trial_plan(plan, params, n_tokens)
        except UserError as error:  # settings that do not go together, such as a warm-up beyond the end of the schedule
            raise TrialFailed(error.reason) from error
        n_steps, n_before, n_read = tried_plan.train.steps, trial.user_attrs[POSITION], 0

        def on_step(report: StepReport) -> None:
            nonlocal n_read
            n_read += report.n_tokens
            ctx.emit(Progress(n_before + report.step / n_steps, plan.search.n_trials, "trials"))

        def on_glance(percent: int, loss: float) -> None:
            trial.report(loss, percent)
            if trial.should_prune():
                raise optuna.TrialPruned

        loss = runs.held_out_loss(tried_plan, on_step, on_glance)
        return Tried(loss, notes=(("steps", n_steps), ("tokens", n_read)))

    def draw(trial: optuna.Trial) -> dict[str, Any]:
        return suggest(trial, plan.search)

    n_startup = n_startup_trials(plan.search.n_trials)
    trials = run_study(
        StudyPlan(
            name="search",
            direction="minimize",
            seed=plan.search.seed,
            n_trials=plan.search.n_trials,
            joint=True,
            suggest=draw,
            objective=objective,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=n_startup),
        ),
        ctx,
    )
    best = refuse_without_best(best_of(trials, "minimize"), trials)
    changes = {SETTINGS[name]: value for name, value in best.params.items()}
    measured = {"value": best.value, "tokens": best.user_attrs["tokens"]}
    write_json(ctx.folder / "best.json", {"changes": changes, "params": best.params, **measured})
    ctx.artifact(ctx.folder / "best.json")
    ctx.emit(
        note("Best held-out loss {loss} in trial {number}.", loss=f"{best.value:.4f}", number=best.user_attrs[POSITION])
    )


def suggest(trial: optuna.Trial, space: SearchPlan) -> dict[str, Any]:
    """One point of the space the plan spans."""
    return {
        "learning_rate": trial.suggest_float(
            "learning_rate", space.learning_rate_low, space.learning_rate_high, log=True
        ),
        "batch_size": trial.suggest_categorical("batch_size", space.batch_sizes),
        "warmup_steps": trial.suggest_int("warmup_steps", space.warmup_steps_low, space.warmup_steps_high),
        "alpha_warmup": trial.suggest_float("alpha_warmup", 0.0, space.alpha_warmup_high),
    }


def trial_plan(plan: Plan, params: dict[str, Any], n_tokens: int) -> Plan:
    """The training plan of one trial: its settings, and as many steps as spend `n_tokens`."""
    tokens_per_step = params["batch_size"] * plan.train.accumulation * plan.data.sequence_length
    settings = {SETTINGS[name]: value for name, value in params.items()}
    return plans.changed(plan, settings | {"train.steps": n_tokens // tokens_per_step})


def token_budget(plan: Plan) -> int:
    """The largest number of tokens up to tokens_per_trial that whole steps of every batch size spend exactly.

    UserError if that leaves the largest batch fewer than two steps.
    """
    per_sequence = plan.train.accumulation * plan.data.sequence_length
    unit = math.lcm(*plan.search.batch_sizes) * per_sequence
    budget = plan.search.tokens_per_trial // unit * unit
    needed = max(unit, 2 * max(plan.search.batch_sizes) * per_sequence)
    if budget < needed:
        raise UserError(
            "{n_tokens} tokens per trial are too few for two steps of the largest batch; {needed} are needed.",
            "Raise search.tokens_per_trial, or search smaller batches or shorter sequences.",
            n_tokens=plan.search.tokens_per_trial,
            needed=needed,
        )
    return budget
