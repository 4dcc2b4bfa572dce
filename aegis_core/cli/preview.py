"""The command preview: what a run would read, before anything is fetched whole or prepared."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..failures import UsageError, UserError, explain
from ..run_directory import RunDirectory
from .work import RunFolder

if TYPE_CHECKING:  # the terminal beside the frozen window has these commands' names, but not the engine's packages
    from ..data.preview import DataPreview
    from ..models.facts import ModelFacts


def preview(
    run_dir: RunFolder,
    only: Annotated[str | None, typer.Option(help="Show this part alone: model or data.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> int:
    """Show what model and data will be: size, licence, disk need, samples; nothing large is fetched, the run stays."""
    if only is not None and only not in PARTS:
        raise UsageError("There is no part {part}.", "It is {parts}.", part=only, parts=", ".join(PARTS))
    run = RunDirectory.open(run_dir)
    found = {name: _looked_at(part, run) for name, part in PARTS.items() if only in (None, name)}
    if as_json:
        print(json.dumps({name: row for name, (row, _) in found.items()}))
    else:
        print(*(line for _, lines in found.values() for line in lines), sep="\n")
    return 1 if any("failure" in row for row, _ in found.values()) else 0


def _looked_at(
    part: Callable[[RunDirectory], tuple[dict[str, Any], list[str]]], run: RunDirectory
) -> tuple[dict[str, Any], list[str]]:
    """What a part shows as JSON and as lines; where it cannot be read, why not."""
    try:
        return part(run)
    except (UserError, OSError) as error:
        return {"failure": vars(explain(error))}, [explain(error).reason, explain(error).advice]


def _model(run: RunDirectory) -> tuple[dict[str, Any], list[str]]:
    from ..models.facts import preview as preview_model

    found = preview_model(run.plan(), run.path)
    enough = all(room.enough for room in found.rooms)
    return {**asdict(found), "disk_bytes": found.disk_bytes, "disk_enough": enough}, list(_model_lines(found))


def _model_lines(found: "ModelFacts") -> Iterator[str]:
    yield f"model      {found.source}{f' at {found.commit}' if found.commit else ''}"
    if found.offline:
        yield "hub        does not answer; the complete copy on this machine will be used"
    yield f"licence    {found.license}{', to be accepted on its page first' if found.gated else ''}"
    yield f"parameters {'not known' if found.n_parameters is None else f'{found.n_parameters:,}'}"
    yield f"to fetch   {found.download_bytes / 1e9:.2f} GB"
    for room in found.rooms:
        free = "?" if room.free_bytes is None else f"{room.free_bytes / 1e9:.2f}"
        verdict = "" if room.enough else ": too little"
        yield f"disk       {room.needed_bytes / 1e9:.2f} GB at {room.folder}, where {free} GB are free{verdict}"


def _data(run: RunDirectory) -> tuple[dict[str, Any], list[str]]:
    from ..data.preview import preview as preview_data

    found = preview_data(run.plan().data)
    return found.row(), list(_data_lines(found))


def _data_lines(found: "DataPreview") -> Iterator[str]:
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


PARTS: dict[str, Callable[[RunDirectory], tuple[dict[str, Any], list[str]]]] = {"model": _model, "data": _data}
