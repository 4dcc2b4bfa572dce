"""What the run's journal tells: when each step was tried and how it ended, what was warned of, what memory it took."""

from dataclasses import dataclass, field
from typing import Any

from ..events import Log, PlanChanged, StepCancelled, StepFailed, StepFinished, StepStarted, Telemetry
from ..journal import replay
from ..run_directory import RunDirectory

READINGS = ("ram_own_bytes", "vram_own_bytes", "vram_used_bytes")
ENDS = {StepFinished: "finished", StepFailed: "failed", StepCancelled: "stopped"}


@dataclass
class History:
    """`readings`: at, stage and READINGS of every step but the report. `attempts`: step, started_at, ended_at, end
    (finished, failed, stopped or broken_off), reason. `warnings`: step, text, template, values, first_at, n.
    `applied`: setting -> {source, old, new}, what searches wrote into the plan, the first old value and the last new.
    """

    readings: list[dict[str, Any]] = field(default_factory=list)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[dict[str, Any]] = field(default_factory=list)
    applied: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def peaks(self) -> dict[str, Any]:
        """The largest readings."""
        found = {name: [v for reading in self.readings if (v := reading[name]) is not None] for name in READINGS}
        return {f"peak_{name}": max(values, default=None) for name, values in found.items()}


def read_history(run: RunDirectory) -> History:
    """One pass through events.jsonl; the report's own events are left out."""
    found, known = History(), dict[tuple[str, str], dict[str, Any]]()
    for event in replay(run.events_path):
        if event.stage == "report":
            continue
        match event:
            case Telemetry():
                row = {name: getattr(event, name) for name in READINGS}
                found.readings.append({"at": event.at, "stage": event.stage} | row)
            case StepStarted():
                _begin(found, event)
            case StepFinished() | StepFailed() | StepCancelled():
                _end(found, event)
            case Log(level="warning"):
                row = known.setdefault((event.stage, event.text), _warning(event))
                row["n"] += 1
            case PlanChanged():
                for name, new in event.new.items():
                    old = found.applied.get(name, {}).get("old", event.old.get(name))
                    found.applied[name] = {"source": event.source, "old": old, "new": new}
    found.warnings = list(known.values())
    return found


def _begin(found: History, event: StepStarted) -> None:
    row = {"step": event.stage, "started_at": event.at, "ended_at": None, "end": "broken_off", "reason": ""}
    found.attempts.append(row)


def _end(found: History, event: StepFinished | StepFailed | StepCancelled) -> None:
    last = found.attempts[-1] if found.attempts else None
    if last and last["step"] == event.stage and last["ended_at"] is None:
        last |= {"ended_at": event.at, "end": ENDS[type(event)]}
        last |= {"reason": event.reason} if isinstance(event, StepFailed) else {}


def _warning(event: Log) -> dict[str, Any]:
    said = {"text": event.text, "template": event.template, "values": dict(event.values)}
    return {"step": event.stage, "first_at": event.at, "n": 0} | said
