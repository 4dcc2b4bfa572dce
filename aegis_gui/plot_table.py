"""The numbers that a plot draws, as rows of a table."""

from typing import TYPE_CHECKING

from .plot_moments import WORDS

if TYPE_CHECKING:
    from .live_plot import LivePlot


def table_of_steps(plot: "LivePlot") -> list[list[str]]:
    """Header and rows of a plot whose x axis is the steps: one row for each x in view, every point of every curve."""
    low, high = plot.view.viewRange()[0]
    names = plot.all_names()
    curves = [curve for curve in plot.curves.values() if curve.name in names and len(curve.series)]
    levels = [level for level in plot.levels if level.value is not None]
    columns = [dict(zip(curve.series.x.tolist(), curve.series.y.tolist(), strict=True)) for curve in curves]
    happened: dict[float, list[str]] = {}
    for moment in plot.moments:
        happened.setdefault(float(moment.x), []).append(WORDS[moment.kind]())
    places = sorted({x for x in happened.keys() | set().union(*columns) if low <= x <= high})
    header = ["step", *(names[c.name] for c in curves), *(x.text(x.value) for x in levels if x.value is not None)]
    rows = [
        [
            written(x),
            *(written(column.get(x)) for column in columns),
            *(written(level.value) for level in levels),
            "; ".join(happened.get(x, [])),
        ]
        for x in places
    ]
    return [[*header, "event"], *rows]


def written(value: float | None) -> str:
    """So that it reads back to the same bits; nothing where there is nothing."""
    if value is None:
        return ""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
