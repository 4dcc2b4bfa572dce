"""Which schedules are tried: every kind, from ranges that reach into those that jump or come late. Light: no optuna."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

KINDS = ("linear", "sigmoid", "cosine", "exponential", "two_phase")
STEEP_KINDS = ("sigmoid", "exponential")  # the others have no steepness
RANGES = {
    "warmup_fraction": (0.0, 0.4),
    "end_fraction": (0.5, 1.0),
    "hold_fraction": (0.0, 0.3),
    "steepness": (2.0, 40.0),
}
"""Setting of soul.schedule -> lowest and highest value tried."""


def suggest(trial: "optuna.Trial") -> dict[str, Any]:
    """One point of the space: settings of soul.schedule."""
    kind = trial.suggest_categorical("kind", KINDS)
    names = [name for name in RANGES if name != "steepness" or kind in STEEP_KINDS]
    return {"kind": kind, **{name: trial.suggest_float(name, *RANGES[name]) for name in names}}
