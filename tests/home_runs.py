"""Runs in every standing, for the tests and pictures of the first page. Their numbers are those of the recorded ritual,
some of them shifted; no run was held."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gui_parts import recorded_run, stamped

from aegis_core import events
from aegis_core.plan import Plan, changed, demo_plan
from aegis_core.run_directory import RunDirectory, write_json

HOUR, DAY = 3600.0, 86400.0


def finished(path: Path, changes: Mapping[str, Any] | None = None, shift: float = 0.0) -> RunDirectory:
    """The recorded ritual, finished, its losses after training moved by so many nats."""
    run = recorded_run(path, changed(demo_plan(), dict(changes or {})))
    if shift:
        for file in (run.path / "fuse" / "quality.json", run.path / "export" / "quality.json"):
            rows = json.loads(file.read_text(encoding="utf-8"))
            write_json(file, {stage: row | {"loss": row["loss"] + shift} for stage, row in rows.items()})
        metrics = run.path / "train" / "metrics.jsonl"
        rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
        for row in rows:
            part = row["step"] / len(rows)
            row["loss"] += shift * part
            if "held_out_loss" in row:
                row["held_out_loss"] += shift * part
        metrics.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return run


def cut_off(path: Path, step: int = 52) -> RunDirectory:
    """Prepared, and killed in the middle of its training."""
    run = recorded_run(path, demo_plan(), last="prepare")
    begin(run, events.StepStarted(), events.Progress(step, 80, "steps"))
    return run


def failed(path: Path) -> RunDirectory:
    """Prepared; its training failed."""
    run = recorded_run(path, demo_plan(), last="prepare")
    begin(run, events.StepStarted(), events.StepFailed("The memory was not enough for this step.", ""))
    return run


def outdated(path: Path) -> RunDirectory:
    """Finished, then its training was changed."""
    run = recorded_run(path, demo_plan())
    run.write_plan(changed(run.plan(), {"train.learning_rate": 1e-3}))
    return run


def damaged(path: Path) -> RunDirectory:
    """Its plan is no JSON."""
    path.mkdir(parents=True)
    (path / "plan.json").write_text('{\n "model": {', encoding="utf-8")
    return RunDirectory(path)


def begin(run: RunDirectory, *told: events.Event) -> None:
    """The training was begun and told this."""
    folder = run.step_folder("train")
    folder.mkdir(exist_ok=True)
    write_json(folder / "begun.json", {"settings": {}, "inputs": {}})
    with run.events_path.open("a", encoding="utf-8") as file:
        file.writelines(events.encode(stamped(event, "train")) + "\n" for event in told)


def age(run: RunDirectory, seconds: float) -> RunDirectory:
    """Last touched so long ago."""
    then = time.time() - seconds
    for file in (run.plan_path, run.events_path):
        if file.is_file():
            os.utime(file, (then, then))
    return run


def several(folder: Path) -> list[RunDirectory]:
    """One run in each standing, the newest first."""
    borea = Plan()
    made = [
        age(cut_off(folder / "borea-physics-01"), 40 * 60),
        age(finished(folder / "demo-2026-11-25"), 5 * HOUR),
        age(finished(folder / "demo rank 32, rate 1e-3", {"lora.rank": 32, "train.learning_rate": 1e-3}, -0.041), DAY),
        age(failed(folder / "長い時間をかけた実験"), 2 * DAY),
        age(outdated(folder / "demo-before-the-change"), 4 * DAY),
        age(RunDirectory.create(folder / "ritual-2026-11-20", borea), 6 * DAY),
        age(damaged(folder / "damaged 破損"), 30 * DAY),
    ]
    return made
