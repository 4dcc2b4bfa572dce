"""Tables that the commands print."""

from collections.abc import Iterable, Iterator
from time import localtime, strftime
from typing import Any

from rich.markup import escape
from rich.table import Table

from .. import pace
from ..events import CheckRow
from ..pipeline import STEPS, State, Step, why_stale
from ..plan import Frozen, Plan
from ..run_card import RunCard, Standing
from ..run_directory import RunDirectory
from ..run_numbers import MAIN_STAGES
from ..side_by_side import SideBySide
from .painter import TITLES

_COLOURS = {
    "ok": "green", "pass": "green", "done": "green",
    "warning": "yellow", "skipped": "yellow", "stale": "yellow",
    "missing": "red", "fail": "red",
}  # fmt: skip


def check_table(rows: Iterable[CheckRow]) -> Table:
    table = _table("what", "state", "found", "what mends it")
    for row in rows:
        table.add_row(escape(row.name), _coloured(row.status), escape(row.found), escape(row.fix))
    return table


def status_table(run: RunDirectory, plan: Plan, found: dict[str, State]) -> Table:
    table = _table("step", "state", "seconds", "")
    for step in STEPS:
        done = run.done(step.id)
        state = str(found[step.id])
        remark = ""
        if done is None and run.begun(step.id):
            remark = "begun"
        elif found[step.id] is State.STALE:
            remark = f"changed: {', '.join(why_stale(run, plan, step))}"
        table.add_row(TITLES[step.id], _coloured(state), _seconds(run, plan, step), escape(remark))
    return table


def _seconds(run: RunDirectory, plan: Plan, step: Step) -> str:
    """What it took, or about what it takes here as far as that was ever measured."""
    if done := run.done(step.id):
        return f"{done.seconds:.1f}"
    expected = pace.expected(run, plan, step.id)
    return f"about {expected.seconds:.0f}" if expected else ""


def runs_table(cards: Iterable[RunCard]) -> Table:
    table = _table("run", "model", "state", "held-out loss", "indicators", "last activity")
    for card in cards:
        losses = [card.numbers.losses.get(stage) for stage in MAIN_STAGES]
        chain = " → ".join("–" if loss is None else f"{loss:.4f}" for loss in losses) if any(losses) else ""
        table.add_row(
            escape(card.name),
            escape(card.plan.model.source if card.plan else ""),
            _standing(card),
            chain,
            f"{card.n_passed} of {len(card.verdicts)}" if card.verdicts else "",
            strftime("%Y-%m-%d %H:%M", localtime(card.changed_at)),
        )
    return table


def comparison_table(found: SideBySide) -> Table:
    table = _table("", *(escape(card.name) for card in found.runs))
    for name, values in found.numbers.items():
        best = found.best(name)
        cells = [_figure(value) for value in values]
        table.add_row(name, *(f"[bold]{cell}[/]" if place == best else cell for place, cell in enumerate(cells)))
    table.add_section()
    for name, values in found.settings.items():
        table.add_row(name, *(escape(_shown(tuple(v) if isinstance(v, list) else v)) for v in values))
    return table


def settings_lines(plan: Plan) -> Iterator[str]:
    """ "section.field=value" with what is allowed and what it means, one line a setting."""
    for name, value, allowed, meaning in settings(plan):
        yield f"{f'{name}={_shown(value)}':<40} {meaning}{f' [{allowed}]' if allowed else ''}"


def indicator_table(indicators: dict[str, dict[str, Any]]) -> Table:
    table = _table("success indicator", "state", "measured", "expected")
    for name, row in indicators.items():
        measured, expected = str(row["measured"]), str(row["expected"])
        table.add_row(escape(name), _coloured(row["status"]), escape(measured), escape(expected))
    return table


def settings(section: Frozen, prefix: str = "") -> Iterator[tuple[str, Any, str, str]]:
    """(section.field, value, what is allowed, meaning) of every setting."""
    properties = type(section).model_json_schema(mode="serialization").get("properties", {})
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Frozen):
            yield from settings(value, f"{prefix}{name}.")
        else:
            schema = properties[name]
            unit = f" ({schema['unit']})" if schema.get("unit") else ""
            yield prefix + name, value, _allowed(schema), f"{info.description}{unit}"


def _allowed(schema: dict[str, Any]) -> str:
    choices = schema.get("items", schema).get("enum")
    if choices:
        return ", ".join(map(str, choices))
    if schema["type"] == "boolean":
        return "true, false"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return " ".join(f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def _standing(card: RunCard) -> str:
    word = str(card.standing).replace("_", " ")
    return f"{word}: {TITLES[card.step]}" if card.step and card.standing is not Standing.NEW else word


def _coloured(status: str) -> str:
    colour = _COLOURS.get(status.split(",")[0])
    return f"[{colour}]{status}[/]" if colour else status
