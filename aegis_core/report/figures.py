"""The figures of the run log as SVG, drawn without a display and without anybody's matplotlib settings."""

import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .control_figure import paint_controls
from .curves import ALPHA, CONTROL, FAINT, HELD_OUT, INK, LOSS, MEMORY, PAPER, Rows, phase_bands, smoothed, thin
from .phrases import STEP_TITLES, Translate, translator
from .quality import STAGE_TITLES
from .svg import for_page

JAPANESE_FONTS = (
    *("Yu Gothic", "Yu Gothic UI", "Meiryo", "Noto Sans CJK JP", "Noto Sans JP", "Hiragino Sans"),
    *("IPAexGothic", "IPAGothic", "TakaoGothic", "VL Gothic", "MS Gothic", "Noto Serif CJK JP"),
)
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: found, read aloud, and set in the reader's own font
    "svg.hashsalt": "aegis",
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}


def draw(
    row: dict[str, Any], metrics: Rows, readings: Rows, language: str, arms: Mapping[Any, Rows] | None = None
) -> dict[str, str]:
    """Name -> an <svg> element for every figure there is data for, as it stands in a page; `standalone` makes a file
    of it. Colours are the page's own, so that they follow its theme.

    `arms` are the rows of the gated run and its controls by kind.
    """
    t = translator(language)
    wanted: dict[str, Callable[[Figure], bool]] = {
        "loss": lambda figure: _loss(figure, row, metrics, t),
        "alpha": lambda figure: _alpha(figure, row, metrics, t),
        "controls": lambda figure: paint_controls(figure, row, arms or {}, t),
        "quality": lambda figure: _quality(figure, row, t),
        "memory": lambda figure: _memory(figure, readings, t),
        "search": lambda figure: _study(figure, row["studies"]["search"], t, min),
        "schedule": lambda figure: _study(figure, row["studies"]["schedule"], t, max),
    }
    with _own_style(_japanese_font() if language == "ja" else None):
        return {name: for_page(svg, name) for name, paint in wanted.items() if (svg := _svg(paint))}


@contextmanager
def _own_style(font: str | None) -> Iterator[None]:
    """matplotlib's defaults and STYLE, whatever the user or another part of the program has set; undone afterwards.

    Fonts only serve to measure: where none has the letters, their width is guessed, and the reader has a font.
    """
    families = [font, "DejaVu Sans"] if font else ["DejaVu Sans"]
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE | {"font.family": families})
        yield


def _japanese_font() -> str | None:
    installed = {entry.name for entry in font_manager.fontManager.ttflist}
    return next((name for name in JAPANESE_FONTS if name in installed), None)


def _svg(paint: Callable[[Figure], bool]) -> str:
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    FigureCanvasSVG(figure)
    try:
        if not paint(figure):
            return ""
    except (KeyError, TypeError, ValueError, AttributeError):  # a form that its chapter finds fault with
        return ""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return text.getvalue()


def _loss(figure: Figure, row: dict[str, Any], metrics: Rows, t: Translate) -> bool:
    """The loss where it is, and above it, at its own height, the line that chance would draw."""
    if not metrics:
        return False
    chance = row["training"]["chance_loss"]
    steps, losses = [r["step"] for r in metrics], [r["loss"] for r in metrics]
    axes = _above_a_gap(figure, chance, max(losses), t) if chance else figure.add_subplot()
    axes.margins(y=0.14)
    n_smooth = max(len(losses) // 20, 3)
    axes.plot(*thin(steps, losses), color=LOSS, alpha=0.3, linewidth=0.9, label=t("loss"))
    axes.plot(*thin(steps, smoothed(losses, n_smooth)), color=LOSS, label=t("smoothed over {n} steps", n=n_smooth))
    held_out = [(r["step"], r["held_out_loss"]) for r in metrics if r.get("held_out_loss") is not None]
    if held_out:
        axes.plot(*zip(*held_out, strict=True), "o", color=HELD_OUT, markersize=5, label=t("held-out loss"))
    if base := row["quality"].get("base"):
        axes.axhline(base["loss"], color=HELD_OUT, linestyle="--", linewidth=1, label=t("base model, held out"))
    axes.set(xlabel=t("step"), ylabel=t("nats per token"))
    phase_bands(axes, row, t)
    axes.legend(loc="upper right", ncols=2)
    return True


def _above_a_gap(figure: Figure, chance: float, top: float, t: Translate) -> Axes:
    """Axes for the curves, with the chance line in them, or in a strip above where it would press them flat."""
    line: dict[str, Any] = {"color": CONTROL, "linestyle": ":", "linewidth": 1.2, "label": t("chance, ln V")}
    if chance < 1.5 * top:
        axes = figure.add_subplot()
        axes.axhline(chance, **line)
        return axes
    strip, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 8))
    strip.axhline(chance, **line)
    strip.annotate(
        f"{t('chance, ln V')} = {chance:.2f}", (0, chance), xycoords=("axes fraction", "data"), xytext=(6, 3),
        textcoords="offset points", fontsize=9, color=CONTROL,
    )  # fmt: skip
    strip.set(yticks=[chance], yticklabels=[f"{chance:.1f}"], ylim=(chance - 1, chance + 2))
    strip.spines["bottom"].set_visible(False)
    strip.tick_params(bottom=False, labelbottom=False)
    return axes


def _alpha(figure: Figure, row: dict[str, Any], metrics: Rows, t: Translate) -> bool:
    if not metrics:
        return False
    axes = figure.add_subplot()
    axes.margins(y=0.14)
    steps = [r["step"] for r in metrics]
    axes.plot(*thin(steps, [r["alpha"] for r in metrics]), color=ALPHA, linewidth=2, label="α")
    by_step = {r["step"]: r["alpha"] for r in metrics}
    points = row["training"]["schedule"]
    marks = ((points["critical_step"], "D", t("critical point")), (points["half_open_step"], "s", t("gate half open")))
    for step, marker, label in marks:
        if step in by_step:
            axes.plot([step], [by_step[step]], marker, color=ALPHA, markeredgecolor=PAPER, markersize=8, label=label)
    axes.set(xlabel=t("step"), ylabel="α")
    phase_bands(axes, row, t)
    gate = axes.twinx()
    gate.spines["right"].set_visible(True)
    gate.plot(*thin(steps, [r.get("gate", float("nan")) for r in metrics]), color=CONTROL, label=t("gate, σ(α)"))
    gate.set(ylabel=t("gate, σ(α)"), ylim=(0, 1))
    lines = [*axes.get_legend_handles_labels()[0], *gate.get_legend_handles_labels()[0]]
    axes.legend(lines, [str(line.get_label()) for line in lines], loc="upper left")
    return True


def _quality(figure: Figure, row: dict[str, Any], t: Translate) -> bool:
    stages = {name: quality for name, quality in row["quality"].items() if _number(quality.get("loss"))}
    if len(stages) < 2:
        return False
    axes = figure.add_subplot()
    losses = [quality["loss"] for quality in stages.values()]
    errors = [quality.get("standard_error") or 0.0 for quality in stages.values()]
    axes.errorbar(range(len(stages)), losses, yerr=errors, fmt="o", color=HELD_OUT, capsize=3, markersize=7)
    for place, loss in enumerate(losses):
        axes.annotate(f"{loss:.4f}", (place, loss), xytext=(9, 4), textcoords="offset points", fontsize=9)
    if "base" in stages:
        axes.axhline(stages["base"]["loss"], color=HELD_OUT, linestyle="--", linewidth=1)
    axes.set_xticks(range(len(stages)), [t(STAGE_TITLES[name]).replace(" ", "\n", 1) for name in stages])
    axes.set_xlim(-0.4, len(stages) - 0.4)
    axes.margins(y=0.2)
    axes.set(ylabel=t("nats per token"))
    return True


def _memory(figure: Figure, readings: Rows, t: Translate) -> bool:
    curves = {"ram_own_bytes": (MEMORY, t("RAM of AEGIS")), "vram_own_bytes": (LOSS, t("VRAM of AEGIS"))}
    drawn = {name: [r for r in readings if r[name] is not None] for name in curves}
    if not any(drawn.values()):
        return False
    axes = figure.add_subplot()
    minutes = _busy_minutes([r["at"] for r in readings])
    by_time = dict(zip((r["at"] for r in readings), minutes, strict=True))
    for name, (colour, label) in curves.items():
        if drawn[name]:
            times, values = [by_time[r["at"]] for r in drawn[name]], [r[name] / 1e9 for r in drawn[name]]
            axes.plot(*thin(times, values), color=colour, label=label)
    stage = ""
    for reading in readings:
        if reading["stage"] != stage:
            stage, place = str(reading["stage"]), by_time[reading["at"]]
            axes.axvline(place, color=FAINT, linewidth=1, zorder=0)
            axes.annotate(
                t(STEP_TITLES.get(stage, stage)),
                (place, 1),
                xycoords=("data", "axes fraction"),
                xytext=(2, -2),
                textcoords="offset points",
                fontsize=8,
                rotation=90,
                va="top",
            )
    axes.set(xlabel=t("minutes at work"), ylabel="GB", ylim=(0, 1.4 * axes.get_ylim()[1]))
    axes.legend(loc="lower right")
    return True


def _study(
    figure: Figure, study: dict[str, Any] | None, t: Translate, better: Callable[[Iterable[float]], float]
) -> bool:
    trials = study["trials"] if study else []
    complete = [(trial["number"] + 1, trial["value"]) for trial in trials if _number(trial["value"])]
    if not complete:
        return False
    axes = figure.add_subplot()
    axes.plot(*zip(*complete, strict=True), "o", color=LOSS, markersize=4, alpha=0.6, label=t("completed trial"))
    so_far = [better(value for _, value in complete[: i + 1]) for i in range(len(complete))]
    axes.step([number for number, _ in complete], so_far, where="post", color=CONTROL, label=t("best so far"))
    axes.set(xlabel=t("trial"), ylabel=t("held-out loss") if better is min else t("score"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="best")
    return True


def _busy_minutes(times: list[float]) -> list[float]:
    """Minutes since the first reading, pauses of more than a minute between readings taken out."""
    total, out = 0.0, []
    for previous, now in zip([*times[:1], *times], times, strict=False):
        total += now - previous if 0 <= now - previous <= 60 else 0.0
        out.append(total / 60)
    return out


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and value == value and abs(value) != float("inf")
