"""What the run log's figures share: colours, phase bands, curves that stay small."""

from typing import Any

from matplotlib.axes import Axes

from .phrases import Translate

LOSS, CONTROL, HELD_OUT, MEMORY, ALPHA = "#2b6cb0", "#8a8f98", "#7b4fb5", "#1f8a84", "#a8811b"
INK, FAINT, PAPER, PHASE_SHADES = (
    "#2a2d33",
    "#d9dce1",
    "#fffffe",
    {"latent": "#f4f5f7", "critical": "#fbf1d8", "settled": "#eaf3ef"},
)
MOST_POINTS = 2000
Rows = list[dict[str, Any]]


def smoothed(values: list[float], n_smooth: int) -> list[float]:
    """Exponential mean over about `n_smooth` values, unbiased from the first one on."""
    weight, total, out = 0.0, 0.0, []
    keep = 1 - 1 / max(n_smooth, 1)
    for value in values:
        weight, total = keep * weight + 1, keep * total + value
        out.append(total / weight)
    return out


def phase_bands(axes: Axes, row: dict[str, Any], t: Translate) -> None:
    for band in row["training"]["phases"]:
        first, last = band["first_step"] - 0.5, band["last_step"] + 0.5
        axes.axvspan(first, last, color=PHASE_SHADES[band["phase"]], linewidth=0, zorder=0)
        axes.annotate(
            t(band["phase"]),
            ((first + last) / 2, 0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=CONTROL,
        )
    bands = row["training"]["phases"]
    if bands:
        axes.set_xlim(bands[0]["first_step"] - 0.5, bands[-1]["last_step"] + 0.5)


def thin(x: list[Any], y: list[Any]) -> tuple[list[Any], list[Any]]:
    """At most about MOST_POINTS points, evenly chosen: long runs stay small files."""
    step = -(-len(x) // MOST_POINTS) or 1
    return x[::step], y[::step]
