"""What a search is worth: the present settings on the same tokens, and both again on other seeds."""

from collections.abc import Callable
from typing import Any

from .. import plan as plans
from ..context import StepContext
from ..events import Metric, Progress, note, warning
from ..plan import Plan
from ..run_directory import write_json
from ..sealed import read_sealed, sealed
from .applying import SETTINGS, changes_of
from .space import trial_plan
from .study import Placed, TrialFailed, Tried

PRESENT, REPEATS = "present.json", "repeats.json"

Train = Callable[[Plan], Tried]
"""A short run by this plan: its held-out loss, with the steps and tokens it took as notes; TrialFailed for no score."""


def present_settings(plan: Plan, ctx: StepContext, n_tokens: int, train: Train) -> dict[str, Any]:
    """The settings the plan had before the search and what they came to: {settings, value, reason, steps, tokens}.

    Measured once: when the search goes on, the plan may already hold what it found.
    """
    path = ctx.folder / PRESENT
    if path.is_file():
        kept = read_sealed(path)
        ctx.emit(Metric("present_loss", 0, kept["value"]))
        return kept
    settings = {name: plans.get(plan, name) for name in SETTINGS.values()}
    ctx.emit(Progress(0, 1, "runs", "present settings"))
    try:
        tried = train(trial_plan(plan, {}, n_tokens))
        row = {"settings": settings, "value": tried.value, "reason": "", **dict(tried.notes)}
    except TrialFailed as failure:
        row = {"settings": settings, "value": None, "reason": str(failure)}
        ctx.emit(warning("The present settings came to no score: {problem}", problem=str(failure)))
    write_json(path, sealed(row))
    ctx.emit(Metric("present_loss", 0, row["value"]))
    ctx.emit(Progress(1, 1, "runs", "present settings"))
    return row


def repeated(
    plan: Plan, ctx: StepContext, best: Placed, present: dict[str, Any], n_tokens: int, train: Train
) -> list[dict[str, Any]]:
    """Best and present settings trained again on `search.repeats` other seeds: [{seed, trial, best, present}].

    Runs made before are kept; a run without a score is None.
    """
    path, n = ctx.folder / REPEATS, plan.search.repeats
    kept = {(row["trial"], row["seed"]): row for row in (read_sealed(path)["rows"] if path.is_file() else [])}
    rows: list[dict[str, Any]] = []
    settings = {"best": changes_of("search", best.trial.params), "present": present["settings"]}
    for i in range(n):
        seed = plan.train.seed + 1 + i
        row = kept.get((best.position, seed)) or {"seed": seed, "trial": best.position}
        for j, (name, changes) in enumerate(settings.items()):
            if name not in row:
                ctx.emit(Progress(2 * i + j, 2 * n, "runs", "other seeds"))
                row[name] = _value(plans.changed(plan, changes | {"train.seed": seed}), n_tokens, train)
                kept[best.position, seed] = row
                write_json(path, sealed({"rows": list(kept.values())}))
        rows.append(row)
    if n:
        ctx.emit(Progress(2 * n, 2 * n, "runs", "other seeds"))
        said = [f"{row['best'] - row['present']:+.4f}" for row in rows if None not in (row["best"], row["present"])]
        ctx.emit(
            note("On other seeds the best settings differ from the present ones by {losses}.", losses=", ".join(said))
        )
    return rows


def _value(plan: Plan, n_tokens: int, train: Train) -> float | None:
    try:
        return train(trial_plan(plan, {}, n_tokens)).value
    except TrialFailed:
        return None
