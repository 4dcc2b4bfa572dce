"""When a training may end before its last step: judged from the rows of metrics.jsonl alone."""

from collections.abc import Iterable
from typing import Any

from ..plan import Plan
from ..soul.schedule import SETTLED_DISTANCE


def settled_measurements(rows: Iterable[dict[str, Any]], plan: Plan) -> list[float]:
    """Held-out losses measured since alpha has arrived; before that the model still changes by the schedule's will."""
    return [row["held_out_loss"] for row in rows if "held_out_loss" in row and _settled(row["alpha"], plan)]


def enough(measurements: list[float], patience: int) -> bool:
    """Whether the last `patience` measurements brought nothing better than those before; never if patience is 0."""
    if not patience or len(measurements) <= patience:
        return False
    return min(measurements[-patience:]) >= min(measurements[:-patience])


def stopped_early(rows: list[dict[str, Any]], plan: Plan) -> bool:
    """Whether a training with these rows ended before its last step because it had enough."""
    return len(rows) < plan.train.steps and enough(settled_measurements(rows, plan), plan.train.early_stopping)


def _settled(alpha: float | None, plan: Plan) -> bool:
    if alpha is None or plan.soul.alpha == "learned":
        return True
    return abs(alpha - plan.soul.alpha_target) < SETTLED_DISTANCE
