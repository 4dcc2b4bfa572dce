"""The command preview: what a run would read, before anything is fetched whole or prepared."""

import json
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from ..data.preview import DataPreview
from ..data.preview import preview as preview_data
from ..failures import UsageError, UserError, explain
from ..plan import Plan
from ..run_directory import RunDirectory
from .work import RunFolder


def preview(
    run_dir: RunFolder,
    only: Annotated[str | None, typer.Option(help="Show this part alone: data.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> int:
    """Show what the data will be read as; nothing is written, and a dataset of the hub is not fetched whole."""
    if only is not None and only not in PARTS:
        raise UsageError("There is no part {part}.", "It is {parts}.", part=only, parts=", ".join(PARTS))
    plan = RunDirectory.open(run_dir).plan()
    found = {name: _looked_at(part, plan) for name, part in PARTS.items() if only in (None, name)}
    if as_json:
        print(json.dumps({name: row for name, (row, _) in found.items()}))
    else:
        print(*(line for _, lines in found.values() for line in lines), sep="\n")
    return 1 if any("failure" in row for row, _ in found.values()) else 0


def _looked_at(
    part: Callable[[Plan], tuple[dict[str, Any], list[str]]], plan: Plan
) -> tuple[dict[str, Any], list[str]]:
    """What a part shows as JSON and as lines; where it cannot be read, why not."""
    try:
        return part(plan)
    except (UserError, OSError) as error:
        return {"failure": vars(explain(error))}, [explain(error).reason, explain(error).advice]


def _data(plan: Plan) -> tuple[dict[str, Any], list[str]]:
    found = preview_data(plan.data)
    return found.row(), list(_data_lines(found))


def _data_lines(found: DataPreview) -> Iterator[str]:
    yield f"data       {found.source}{f' at commit {found.commit}' if found.commit else ''}"
    yield f"files      {', '.join(found.files)}"
    yield f"rows       {'not known before everything is read' if found.n_rows is None else found.n_rows}"
    yield f"columns    {', '.join(found.columns)}"
    reads = ", ".join(f"{column} as {what}" for what, column in found.reads.items())
    yield f"reads      {reads}{' (joined to plain text)' if found.as_text else ''}"
    yield from (f"warning    {said.text}" for said in found.warnings)
    for number, sample in enumerate(found.samples, start=1):
        yield f"sample {number}"
        turns = sample.get("messages") or [{"role": "text", "content": sample.get("text", "")}]
        for turn in turns:
            yield f"  {turn['role'] + ':':<11}{_in_one_line(turn['content'])}"


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


PARTS: dict[str, Callable[[Plan], tuple[dict[str, Any], list[str]]]] = {"data": _data}
