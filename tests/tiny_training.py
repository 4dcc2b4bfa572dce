"""Tiny trainings of any family: a prepared run, steps in this process or in a child to kill, their results."""

import importlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pico import write_questions
from tiny_families import build

from aegis_core.cancel import CancelToken
from aegis_core.cli import main
from aegis_core.events import Event, StepFailed, StepFinished
from aegis_core.pipeline import BY_ID, run_steps
from aegis_core.plan import Plan, changed
from aegis_core.run_directory import RunDirectory
from aegis_core.training.metrics import read_metrics

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 200
# Gemma's sliding layers look back 32 tokens; Phi-3's long rotary factors begin after 128.
SEQUENCE_LENGTH = {"phi3": 160}
LONGER_THAN_THE_WINDOW = 64


def prepared(family: str, folder: Path, **settings: Any) -> RunDirectory:
    """A run whose data is packed, on a tiny model of the family; `train__steps=3` sets train.steps."""
    folder.mkdir(parents=True, exist_ok=True)
    data = write_questions(folder / "質問.jsonl", n_each=8)
    plan = changed(
        Plan(),
        {
            "model.source": str(build(family, folder / "素体")), "data.source": str(data),
            "data.sequence_length": SEQUENCE_LENGTH.get(family, LONGER_THAN_THE_WINDOW),
            "train.steps": 6, "train.warmup_steps": 1, "train.evaluate_steps": 0, "train.checkpoint_steps": 2,
            "lora.rank": 4, "chat.questions": "en",
        },
    )  # fmt: skip
    run = RunDirectory.create(folder / "ri tual", changed(plan, dotted(settings)))
    ritual(run, "prepare")
    return run


def beside(run: RunDirectory, name: str, **settings: Any) -> RunDirectory:
    """Another run on the same model and the same prepared data, with other settings."""
    other = RunDirectory.create(run.path.with_name(name), changed(run.plan(), dotted(settings)))
    shutil.copytree(run.path / "prepare", other.path / "prepare")
    return other


def set_plan(run: RunDirectory, **settings: Any) -> None:
    run.write_plan(changed(run.plan(), dotted(settings)))


def dotted(settings: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("__", "."): value for name, value in settings.items()}


def ritual(run: RunDirectory, *steps: str) -> list[Event]:
    """Run the steps in this process to their end."""
    heard: list[Event] = []
    last = run_steps(run, tuple(BY_ID[step] for step in steps), heard.append, CancelToken())
    assert isinstance(last, StepFinished), last.traceback if isinstance(last, StepFailed) else last
    return heard


def timeless(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl without the only number that may differ between equal trainings."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in read_metrics(path)]


def trained(run: RunDirectory) -> dict[str, Any]:
    """What equal trainings share to the bit."""
    train = run.path / "train"
    files = ("soul.safetensors", "adapter/adapter_model.safetensors", "adapter/adapter_config.json")
    return {"rows": timeless(train / "metrics.jsonl")} | {name: (train / name).read_bytes() for name in files}


def compared(run: RunDirectory) -> dict[str, Any]:
    """What equal comparisons share to the bit, arm by arm."""
    folder = run.path / "train" / "control"
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: timeless(path) if path.name == "metrics.jsonl" else path.read_bytes() for name, path in files.items()
    } | {"control.json": (folder.parent / "control.json").read_bytes()}


def start() -> subprocess.Popen[str]:
    """A child that has imported torch, which takes most of its time, when `train` tells it what to do."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))), "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1",
    }  # fmt: skip
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "stdin": subprocess.PIPE}
    return subprocess.Popen([sys.executable, __file__], env=environment, encoding="utf-8", **pipes)


def train(child: subprocess.Popen[str], *runs: RunDirectory) -> subprocess.Popen[str]:
    """Let the child do `aegis run RUN --only train` for one run after another, and end."""
    assert child.stdin is not None
    child.stdin.write(json.dumps([str(run.path) for run in runs]) + "\n")
    child.stdin.close()
    child.stdin = None  # or communicate() would want to use it
    return child


def kill_at(child: subprocess.Popen[str], metrics: Path, step: int, chance: random.Random) -> None:
    """Kill the child some moments after the row of `step` was written."""
    began = time.monotonic()
    while not any(row["step"] >= step for row in read_metrics(metrics)):
        if child.poll() is not None or time.monotonic() - began > PATIENCE_SECONDS:
            raise AssertionError(child.communicate()[1][-2000:])
        time.sleep(0.002)
    time.sleep(chance.random() * 0.03)
    assert child.poll() is None, "it ended before it could be killed"
    child.kill()
    child.communicate()


if __name__ == "__main__":
    importlib.import_module("aegis_core.steps.train")
    sys.exit(max(main(["run", path, "--only", "train"]) for path in json.loads(sys.stdin.readline())))
