"""The few numbers by which runs are told apart, each read from the file of the step that measured it.

Only results that still fit the plan count: an outdated one is a gap, not a number.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .freshness import State
from .run_directory import RunDirectory

MEASURED_BY = ("train", "fuse", "export")
MAIN_STAGES = ("base", "fused", "q4_k_m")
"""The stages a run is summed up by: where it began, what it made, what is used."""


@dataclass(frozen=True)
class Numbers:
    """`losses` and `errors` are held-out nats per token by stage, in the order measured; everything absent is None.

    `held_out` is the hash of the text they were measured on: losses of different texts cannot be compared.
    """

    losses: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)
    held_out: str = ""
    training_seconds: float | None = None
    trained_tokens: int | None = None
    alpha: float | None = None
    file_bytes: Mapping[str, int] = field(default_factory=dict)
    n_answers: int | None = None
    n_meaningful: int | None = None
    tokens_per_second: float | None = None


def read_numbers(run: RunDirectory, states: Mapping[str, State]) -> Numbers:
    """What the finished, still valid steps of a run measured; a file that cannot be read is a gap."""
    losses: dict[str, float] = {}
    errors: dict[str, float] = {}
    for step in MEASURED_BY:
        for stage, row in _of(run, states, step, "quality.json").items():
            loss, error = _number(row, "loss"), _number(row, "standard_error")
            if loss is not None:
                losses[stage] = loss
                if error is not None:
                    errors[stage] = error
    summary = _of(run, states, "train", "summary.json")
    chat = _of(run, states, "chat", "chat.json")
    tokens, n_answers, n_meaningful = (
        _number(summary, "tokens"),
        _number(chat, "n_questions"),
        _number(chat, "n_passed"),
    )
    return Numbers(
        losses,
        errors,
        _held_out(run, states),
        _number(summary, "seconds_in_steps"),
        None if tokens is None else int(tokens),
        _number(summary, "alpha_final"),
        _file_sizes(run, states),
        None if n_answers is None else int(n_answers),
        None if n_meaningful is None else int(n_meaningful),
        _number(chat, "tokens_per_second"),
    )


def read_content(path: Path) -> Any:
    """The JSON in the file, None where there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _of(run: RunDirectory, states: Mapping[str, State], step: str, name: str) -> dict[str, Any]:
    found = read_content(run.step_folder(step) / name) if states.get(step) is State.DONE else None
    return found if isinstance(found, dict) else {}


def _held_out(run: RunDirectory, states: Mapping[str, State]) -> str:
    done = run.done("prepare") if states.get("prepare") is State.DONE else None
    hashes = [a.sha256 for a in done.outputs if a.path.endswith("held_out.safetensors")] if done else []
    return hashes[0] if hashes else ""


def _file_sizes(run: RunDirectory, states: Mapping[str, State]) -> dict[str, int]:
    rows = read_content(run.step_folder("export") / "files.json") if states.get("export") is State.DONE else None
    found = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return {row["type"]: row["bytes"] for row in found if isinstance(row.get("bytes"), int) and "type" in row}


def _number(row: object, name: str) -> float | None:
    value = row.get(name) if isinstance(row, Mapping) else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
