"""From a trial to the training plan: which settings it stands for, and which of them it may write. Light: no torch."""

from typing import Any

from .. import plan as plans
from ..failures import UserError
from ..freshness import STEPS, Step
from ..plan import Plan
from ..run_directory import RunDirectory, read_json

SETTINGS = {
    "learning_rate": "train.learning_rate",
    "batch_size": "train.batch_size",
    "warmup_steps": "train.warmup_steps",
    "alpha_warmup": "soul.schedule.warmup_fraction",
    "rank": "lora.rank",
    "dropout": "lora.dropout",
    "rotation_learning_rate": "soul.rotation_learning_rate",
}
"""Name of a parameter of the hyperparameter study -> the setting it stands for."""


def changes_of(step: str, params: dict[str, Any]) -> dict[str, Any]:
    """The settings that the parameters of a trial of `step` (search or schedule) stand for."""
    if step == "schedule":
        return {f"soul.schedule.{name}": value for name, value in params.items()}
    return {SETTINGS[name]: value for name, value in params.items()}


def allowed(plan: Plan, step: Step, changes: dict[str, Any]) -> dict[str, Any]:
    """Those of the changes that the step may write: what a later search that is switched on finds wins."""
    later = STEPS[[known.id for known in STEPS].index(step.id) + 1 :]
    taken = [
        name for other in later if other.optional and plans.get(plan, f"{other.id}.enabled") for name in other.owns
    ]
    return {name: value for name, value in changes.items() if not _covered(name, taken)}


def trial_changes(run: RunDirectory, step: Step, number: int) -> dict[str, Any]:
    """What the trial of that number, counted from 1, would write into the run's plan.

    UserError if there is no such trial, if it came to no score, or if it is a schedule that does not converge.
    """
    path = run.step_folder(step.id) / "trials.json"
    rows = {row["number"] + 1: row for row in read_json(path)} if path.is_file() else {}
    row = rows.get(number)
    if row is None:
        raise UserError(
            "{step} has no finished trial {number}.",
            "Run that step to its end, or choose one of its {n} trials.",
            step=step.id,
            number=number,
            n=len(rows),
        )
    if row["state"] != "COMPLETE" or row.get("converged") is False:
        raise UserError(
            "Trial {number} of {step} came to no result that could be trained with: {problem}",
            "Choose a trial that is complete.",
            number=number,
            step=step.id,
            problem=row["reason"] or ("it does not converge." if row["state"] == "COMPLETE" else row["state"].lower()),
        )
    return allowed(run.plan(), step, changes_of(step.id, row["params"]))


def apply_trial(run: RunDirectory, step: Step, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write a trial's settings into the plan; returns the old and the new values. UserError as for `trial_changes`."""
    new = trial_changes(run, step, number)
    plan = run.plan()
    old = {name: plans.get(plan, name) for name in new}
    if old != new:
        run.write_plan(plans.changed(plan, new))
    return old, new


def _covered(name: str, prefixes: list[str]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)
