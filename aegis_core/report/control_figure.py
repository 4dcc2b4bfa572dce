"""The gated run beside its controls: their losses, and below, large enough to see, what they differ by."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .controls import ARM_TITLES
from .curves import ALPHA, CONTROL, HELD_OUT, LOSS, Rows, phase_bands, smoothed, thin
from .phrases import Translate

COLOURS = {"gated": LOSS, "lora": CONTROL, "fixed": ALPHA}


def paint_controls(figure: Figure, row: dict[str, Any], arms: Mapping[Any, Rows], t: Translate) -> bool:
    """False where there is nothing to compare. Only the plan's own data order is drawn."""
    if not row["control"] or len(arms) < 2:
        return False
    figure.set_size_inches(8.4, 5.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    gated = {r["step"]: r["loss"] for r in arms["gated"]}
    n_smooth = max(len(gated) // 20, 3)
    for kind, rows in arms.items():
        steps, losses = [r["step"] for r in rows], [r["loss"] for r in rows]
        above.plot(*thin(steps, smoothed(losses, n_smooth)), color=COLOURS[kind], label=t(ARM_TITLES[kind]))
        if kind != "gated":
            _difference(
                below, kind, {r["step"]: gated[r["step"]] - r["loss"] for r in rows if r["step"] in gated}, n_smooth
            )
    below.axhline(0, color=CONTROL, linewidth=0.8)
    if found := row["control"]["transition"]["step"]:
        for axes in (above, below):
            axes.axvline(found, color=HELD_OUT, linewidth=1.2, label=t("observed transition"))
    above.set(ylabel=t("nats per token"))
    below.set(xlabel=t("step"), ylabel=t("gated − control"))
    for axes in (above, below):
        axes.margins(y=0.14)
        phase_bands(axes, row, t)
    above.legend(loc="upper right", ncols=4)
    return True


def _difference(axes: Axes, kind: str, differences: dict[int, float], n_smooth: int) -> None:
    steps, values = list(differences), list(differences.values())
    axes.plot(*thin(steps, values), color=COLOURS[kind], alpha=0.3, linewidth=0.9)
    axes.plot(*thin(steps, smoothed(values, n_smooth)), color=COLOURS[kind])
