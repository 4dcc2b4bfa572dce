"""What a finished training came to, in a few lines."""

from collections.abc import Mapping
from typing import Any

from . import text
from .i18n import filled, mark, tr


def training_facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value) from summary.json; a value is "" where the run does not know it."""
    if not summary:
        return []
    return [
        (tr("Steps"), _steps(summary)),
        (tr("Held-out loss at the end"), _with(mark("{loss} nats"), "loss", summary.get("held_out_loss_last"))),
        (tr("Alpha at the end"), _number(summary.get("alpha_final"))),
        (tr("Critical point"), _step(summary, "critical_step", tr("none: alpha was learned"))),
        (tr("Gate half open"), _step(summary, "half_open_step", "")),
        (tr("Rotation"), _with(mark("{angle} rad, rms angle"), "angle", summary.get("rotation_angle"))),
        (tr("Most memory on the GPU"), _size(summary.get("peak_vram_bytes"))),
        (tr("Most memory"), _size(summary.get("peak_ram_bytes"))),
        (tr("Time in steps"), _duration(summary.get("seconds_in_steps"))),
        (tr("Tokens"), _number(summary.get("tokens"))),
    ]


def _steps(summary: Mapping[str, Any]) -> str:
    done, planned = summary.get("steps_done"), summary.get("steps_planned")
    if done is None or planned is None:
        return _number(done)
    early = mark("{done} of {total} steps; stopped early, because nothing got better any more")
    template = early if summary.get("stopped_early") else mark("{done} of {total} steps")
    return filled(template, done=text.number(done), total=text.number(planned))


def _step(summary: Mapping[str, Any], name: str, otherwise: str) -> str:
    if name not in summary:
        return ""
    step = summary[name]
    return otherwise if step is None else filled("step {step}", step=text.number(step))


def _with(template: str, name: str, value: float | None) -> str:
    return "" if value is None else filled(template, {name: text.number(value)})


def _number(value: float | None) -> str:
    return "" if value is None else text.number(value)


def _size(n_bytes: float | None) -> str:
    return "" if n_bytes is None else text.size(n_bytes)


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else text.duration(seconds)
