"""The search space that the plan spans, and how a point of it becomes a training plan that spends the same tokens."""

import math
from typing import Any

import optuna

from .. import plan as plans
from ..failures import UserError
from ..plan import Plan, SearchPlan
from .applying import changes_of


def suggest(trial: optuna.Trial, space: SearchPlan) -> dict[str, Any]:
    """One point of the space; rank, dropout and the rotation's learning rate only where the plan asks for them."""
    point: dict[str, Any] = {
        "learning_rate": trial.suggest_float(
            "learning_rate", space.learning_rate_low, space.learning_rate_high, log=space.learning_rate_log
        ),
        "batch_size": trial.suggest_categorical("batch_size", space.batch_sizes),
        "warmup_steps": trial.suggest_int("warmup_steps", space.warmup_steps_low, space.warmup_steps_high),
        "alpha_warmup": trial.suggest_float("alpha_warmup", space.alpha_warmup_low, space.alpha_warmup_high),
    }
    if space.ranks:
        point["rank"] = trial.suggest_categorical("rank", space.ranks)
    if space.dropout_high:
        point["dropout"] = trial.suggest_float("dropout", space.dropout_low, space.dropout_high)
    if space.rotation_high:
        point["rotation_learning_rate"] = trial.suggest_float(
            "rotation_learning_rate", space.rotation_low, space.rotation_high, log=True
        )
    return point


def trial_plan(plan: Plan, params: dict[str, Any], n_tokens: int) -> Plan:
    """The training plan of one trial: its settings, and as many steps as spend `n_tokens`."""
    changes = changes_of("search", params)
    batch_size = changes.get("train.batch_size", plan.train.batch_size)
    tokens_per_step = batch_size * plan.train.accumulation * plan.data.sequence_length
    return plans.changed(plan, changes | {"train.steps": n_tokens // tokens_per_step})


def token_budget(plan: Plan, wanted: int, batch_sizes: tuple[int, ...]) -> int:
    """The largest number of tokens up to `wanted` that whole steps of every batch size spend exactly.

    UserError if that leaves the largest batch fewer than two steps.
    """
    per_sequence = plan.train.accumulation * plan.data.sequence_length
    unit = math.lcm(*batch_sizes) * per_sequence
    budget = wanted // unit * unit
    needed = max(unit, 2 * max(batch_sizes) * per_sequence)
    if budget < needed:
        raise UserError(
            "{n_tokens} tokens per trial are too few for two steps of the largest batch; {needed} are needed.",
            "Raise tokens_per_trial, or search smaller batches or shorter sequences.",
            n_tokens=wanted,
            needed=needed,
        )
    return budget
