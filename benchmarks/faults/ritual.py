"""The ritual that the faults befall: nine steps on a tiny model, one reference run, and what equal runs share.

`Reference` holds the run as it was before each step. On a processor equal runs are equal to the bit; what may differ
(times, readings of the machine, speeds) is taken out by name in `TIMES`, nothing else.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aegis_core import plan as plans
from aegis_core.run_directory import RunDirectory

from .engine import ROOT, STEPS, forked, in_fork

TIMES = frozenset(
    (
        "seconds", "finished_at", "at", "seconds_in_steps", "seconds_this_attempt", "tokens_per_second", "started_at",
        "peak_vram_bytes", "peak_ram_bytes", "first_token_seconds", "written_at", "peak_bytes", "measured_bytes",
        "self_sha256",  # covers the others of these
    )
)  # fmt: skip
# What tells of a course or of the machine and not of a result.
NOT_COMPARED = (
    "events.jsonl", "stderr.log", "lock", "id", "report.html", "report.md", "report.json", "report/", "check/",
    "previous/", "train/checkpoint-", "train/memory.json", "/begun.json", "/done.json",
    "search/study.db", "schedule/study.db",
    "window.lock", "search/trials.json", "schedule/trials.json", "conversations/", "chat/overrules.jsonl",
)  # fmt: skip
RUN, CACHE, MODEL, DATA = "run 走る", "cache", "素体 model", "質問 と答え.jsonl"
SETTINGS: dict[str, Any] = {
    "data.sequence_length": 32, "train.steps": 12, "train.evaluate_steps": 4, "train.checkpoint_steps": 3,
    "train.warmup_steps": 1, "lora.rank": 4, "chat.questions": "en", "chat.backend": "embedded",
    "chat.n_questions": 2, "chat.max_tokens": 24, "chat.num_ctx": 512, "search.enabled": True, "search.n_trials": 2,
    "search.tokens_per_trial": 256, "schedule.enabled": True, "schedule.n_trials": 5, "report.language": "en",
}  # fmt: skip
USER_FILES = {
    "conversations/20260101-000000-kept.jsonl": '{"kind": "question", "text": "残る?"}\n',
    "chat/overrules.jsonl": "",
}


@dataclass(frozen=True)
class Reference:
    """`before[step]` is the run as it lay before the step, `after` as it lay in the end; `seconds` what each took."""

    folder: Path
    seconds: dict[str, float]
    prints: dict[str, dict[str, str]]
    indicators: dict[str, str]

    def before(self, step: str) -> Path:
        return self.folder / "before" / step

    @property
    def finished(self) -> Path:
        return self.folder / "before" / "end"

    @property
    def run(self) -> RunDirectory:
        """Where every attempt works: equal runs are equal to the bit in the same place, since files name it."""
        return RunDirectory(self.folder / RUN)

    def set_out(self, step: str, start: Path | None = None) -> RunDirectory:
        """The run lies again as it did before the step, or as a copy at `start` is."""
        for folder in (self.run.path, self.folder / CACHE):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(start or self.before(step), self.run.path)
        return self.run


def make_reference(folder: Path, log: Path) -> Reference:
    """The undisturbed run, step by step, each kept as it lay before."""
    os.environ |= {
        "AEGIS_CACHE": str(folder / CACHE), "AEGIS_DATA": str(folder / "data"), "AEGIS_RUNS": str(folder / "runs"),
    }  # fmt: skip
    in_fork(lambda: _ingredients(folder), log)
    run = RunDirectory(folder / RUN)
    seconds, prints = {}, {}
    for step in STEPS:
        shutil.copytree(run.path, folder / "before" / step)
        began = time.monotonic()
        attempt = forked(["run", str(run.path), "--only", step], log)
        if attempt.wait() != 0:
            raise RuntimeError(f"the undisturbed {step} failed: {attempt.said()[-3000:]}")
        seconds[step] = time.monotonic() - began
        prints[step] = fingerprint(run.path)
    shutil.copytree(run.path, folder / "before" / "end")
    return Reference(folder, seconds, prints, indicators(run.path))


def _ingredients(folder: Path) -> str:
    sys.path.insert(0, str(ROOT / "tests"))
    from pico import write_questions
    from tiny_families import build

    model = build("llama", folder / MODEL)
    data = write_questions(folder / DATA, n_each=8)
    plan = plans.changed(plans.Plan(), {"model.source": str(model), "data.source": str(data), **SETTINGS})
    run = RunDirectory.create(folder / RUN, plan)
    run.identity()
    for name, text in USER_FILES.items():
        if text:
            (run.path / name).parent.mkdir(parents=True, exist_ok=True)
            (run.path / name).write_text(text, encoding="utf-8")
    return str(run.path)


def fingerprint(run: Path) -> dict[str, str]:
    """SHA-256 of every result by name; of JSON its content without times, of trials what was tried and found."""
    return {path.relative_to(run).as_posix(): _hash(path) for path in results(run)}


def results(run: Path) -> Iterator[Path]:
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_file() and not any(
            part in f"/{name}" if part[0] == "/" else name.startswith(part) for part in NOT_COMPARED
        ):
            yield path


def indicators(run: Path) -> dict[str, str]:
    """The seven claims of the run log, by status."""
    rows = json.loads((run / "report.json").read_text(encoding="utf-8"))["indicators"]
    return {name: row["status"] for name, row in rows.items()}


def _hash(path: Path) -> str:
    content = path.read_bytes()
    with contextlib.suppress(ValueError):  # damaged, and in no way what it should be
        content = _as_told(path, content)
    return hashlib.sha256(content).hexdigest()


def _as_told(path: Path, content: bytes) -> bytes:
    if path.suffix in (".json", ".jsonl"):
        lines = content.decode("utf-8").splitlines() if path.suffix == ".jsonl" else [content.decode("utf-8")]
        content = json.dumps([_timeless(json.loads(line)) for line in lines], sort_keys=True).encode()
    return content


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in TIMES}
    return [_timeless(item) for item in value] if isinstance(value, list) else value
