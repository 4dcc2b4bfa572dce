"""Everything the engine says while it works: frozen events and their JSON lines.

One line per event: {"event": "Metric", "at": 1790000000.0, "stage": "train", "name": "loss", "step": 3, "value": 2.1}.
`at` is Unix time in seconds, `stage` the step of the ritual. NaN and infinities travel as null.
"""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Event:
    at: float = 0.0
    stage: str = ""


@dataclass(frozen=True)
class StepStarted(Event):
    resumed: bool = False


@dataclass(frozen=True)
class StepSkipped(Event):
    """Nothing to do: `reason` is "fresh" (done already, nothing changed) or "disabled" (switched off in the plan)."""

    reason: str


@dataclass(frozen=True)
class Progress(Event):
    """`unit` is what is counted: steps, trials, shards, bytes, tokens, answers…; `phase` what is being done."""

    done: float
    total: float
    unit: str
    phase: str = ""


@dataclass(frozen=True)
class Metric(Event):
    """One point of a curve; `step` is the optimiser step (1 = after the first) or the trial's own step."""

    name: str
    step: int
    value: float | None


@dataclass(frozen=True)
class Sample(Event):
    prompt: str
    text: str
    step: int = 0


@dataclass(frozen=True)
class Telemetry(Event):
    """Readings of the machine; what cannot be read is None, never a guess.

    `vram_shared_bytes` is what this run's processes hold in Windows' shared graphics memory, which is RAM.
    """

    gpu_name: str | None = None
    vram_used_bytes: int | None = None
    vram_total_bytes: int | None = None
    vram_own_bytes: int | None = None
    vram_shared_bytes: int | None = None
    gpu_percent: float | None = None
    gpu_celsius: float | None = None
    gpu_watts: float | None = None
    cpu_percent: float | None = None
    ram_used_bytes: int | None = None
    ram_total_bytes: int | None = None
    ram_own_bytes: int | None = None
    disk_free_bytes: int | None = None


@dataclass(frozen=True)
class CheckRow(Event):
    """One line of the environment check: status is ok, warning or missing; `fix` a command or sentence; `mend` names
    what the window can do about it (aegis_gui/pages/check.py lists the names), empty where it can do nothing."""

    name: str
    status: str
    found: str
    fix: str = ""
    mend: str = ""


@dataclass(frozen=True)
class TrialFinished(Event):
    """`state` is COMPLETE, PRUNED or FAIL; `curve` holds the trial's own values for drawing (alpha or loss).

    `importances` are the parts of the spread of values so far that each parameter explains; empty where unknown.
    """

    number: int
    state: str
    value: float | None
    params: dict[str, Any]
    best_value: float | None = None
    reason: str = ""
    curve: tuple[float, ...] = ()
    importances: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialRunning(Event):
    """A trial at work: `curve` holds what it has read so far, as in TrialFinished. Each one replaces the one before."""

    number: int
    params: dict[str, Any]
    curve: tuple[float, ...] = ()


@dataclass(frozen=True)
class PhaseChanged(Event):
    """`phase` is latent, critical or settled."""

    step: int
    phase: str


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """A checkpoint after this optimiser step is complete on disk."""

    step: int


@dataclass(frozen=True)
class Verdict(Event):
    """One measured claim: `status` is pass, fail or skipped; `measured` and `expected` are ready to read."""

    name: str
    status: str
    measured: str
    expected: str


@dataclass(frozen=True)
class Artifact(Event):
    """A file the step leaves behind; `sha256` may be empty where the pipeline is to compute it."""

    path: str
    bytes: int
    sha256: str = ""
    evidence: bool = False


@dataclass(frozen=True)
class PlanChanged(Event):
    """Settings written by the pipeline: `old` and `new` map "section.field" to values."""

    old: dict[str, Any]
    new: dict[str, Any]
    source: str


@dataclass(frozen=True)
class Paused(Event):
    paused: bool


@dataclass(frozen=True)
class Log(Event):
    """`level` is info or warning; `template` and `values` let the window translate `text`."""

    level: str
    text: str
    template: str = ""
    values: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Token(Event):
    id: str
    text: str


@dataclass(frozen=True)
class AnswerFinished(Event):
    """`reason` is stop, length, cancelled or error (then `error` says what, and `advice` what to do about it).

    n_prompt_tokens is what was read. `seconds` count from the question's arrival, and so do `first_token_seconds`:
    None if no token came.
    """

    id: str
    reason: str
    n_tokens: int
    seconds: float
    error: str = ""
    n_prompt_tokens: int = 0
    first_token_seconds: float | None = None
    advice: str = ""


@dataclass(frozen=True)
class StepFinished(Event):
    seconds: float


@dataclass(frozen=True)
class StepFailed(Event):
    """`changes` are settings ("section.field" → value) that would mend it, if there are such."""

    reason: str
    advice: str
    traceback: str = ""
    reason_template: str = ""
    advice_template: str = ""
    values: dict[str, str] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StepCancelled(Event):
    pass


TERMINAL = (StepFinished, StepFailed, StepCancelled)
KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in Event.__subclasses__()}
_FIELDS = {name: frozenset(f.name for f in dataclasses.fields(kind)) for name, kind in KINDS.items()}


def note(text: str, **values: object) -> Log:
    """An information line whose template the window can translate."""
    return _log("info", text, values)


def warning(text: str, **values: object) -> Log:
    """A warning line whose template the window can translate."""
    return _log("warning", text, values)


def _log(level: str, template: str, values: dict[str, object]) -> Log:
    texts = {name: str(value) for name, value in values.items()}
    return Log(level, template.format(**texts), template, texts)


def encode(event: Event) -> str:
    """One line of JSON, without the line end; non-finite numbers become null."""
    row = {"event": type(event).__name__, **{f.name: getattr(event, f.name) for f in dataclasses.fields(event)}}
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(row), ensure_ascii=False, allow_nan=False)


def decode(line: str) -> Event:
    """The event in a line; ValueError if the line is not one. Fields of newer versions are ignored."""
    row = json.loads(line)
    if not isinstance(row, dict) or row.get("event") not in KINDS:
        raise ValueError(f"not an event: {line[:80]}")
    name = row["event"]
    known = {key: value for key, value in row.items() if key in _FIELDS[name]}
    if isinstance(known.get("curve"), list):
        known["curve"] = tuple(known["curve"])
    try:
        return KINDS[name](**known)
    except TypeError as error:
        raise ValueError(f"not a whole {name}: {error}") from error


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
