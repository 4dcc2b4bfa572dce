"""report.json: everything the run log says, as data. Read from the run's files only."""

import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from ..chat.overruling import answered_id
from ..plan import Plan
from ..run_directory import RunDirectory
from . import facts, repeat
from .controls import read_controls
from .evidence import Evidence, Gap
from .findings import Finding
from .foreign import shown
from .fusion import fusion_claims, fusion_origin
from .history import History, read_history
from .indicators import indicators, judged_again, users_verdicts
from .phrases import Phrase
from .quality import quality_checks, read_stages

FORMAT = 1
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Record:
    """`row` is report.json; findings and gaps keep their phrases so that the log can be written in any language."""

    row: dict[str, Any]
    indicators: dict[str, Finding]
    quality_checks: dict[str, Finding]
    gaps: tuple[Phrase, ...]
    control_problems: tuple[Phrase, ...] = ()
    history: History = field(default_factory=History)


def gather(run: RunDirectory, plan: Plan, before_hash: Callable[[], None] = lambda: None) -> Record:
    """Read, hash and judge everything; a missing or damaged file becomes a gap or a red finding, never an error."""
    evidence = Evidence(run, before_hash)
    found, history = indicators(evidence), read_history(run)
    stages, gaps = read_stages(evidence)
    controls, control_problems = read_controls(evidence)
    environment = facts.environment(evidence)
    summary = facts.optional_json(evidence, "train", "summary.json", dict)
    chance = summary.get("chance_loss") if summary else None
    checks = quality_checks(evidence, stages, chance)
    proof = facts.optional_json(evidence, "fuse", "proof.json", dict)
    transcript, transcript_gaps = _transcript(evidence, "transcript.jsonl")
    base_transcript, _ = _transcript(evidence, "base_transcript.jsonl")
    overrules = _overrules(evidence, transcript)
    metrics = facts.metrics(evidence)
    base = facts.optional_json(evidence, "prepare", "base.json", dict)
    data = facts.optional_json(evidence, "prepare", "data.json", dict)
    row = {
        "format": FORMAT,
        "run": run.path.name,
        "made_at": datetime.now().astimezone().isoformat(timespec="seconds"),
        "language": plan.report.language,
        "indicators": {name: finding.row() for name, finding in found.items()},
        "quality": stages,
        "quality_checks": {name: finding.row() for name, finding in checks.items()},
        "fusion": proof or {"max_abs_logit_diff": None},
        "fusion_claims": fusion_claims(evidence, proof or {}),
        "fusion_origin": fusion_origin(evidence),
        "export": facts.exported(evidence),
        "chat": {
            "backend": transcript[-1].get("backend") if transcript else None,
            "model": transcript[-1].get("model") if transcript else None,
            "answers": transcript,
            "base_answers": base_transcript,
            "base_why": _why_no_base(evidence),
            "overrules": overrules,
        },
        "training": {
            "summary": summary,
            "chance_loss": chance,
            "schedule": facts.schedule_points(plan),
            "phases": facts.phase_table(plan, metrics),
        },
        "control": controls,
        "base": base,
        "data": data,
        "studies": facts.studies(evidence, plan),
        "steps": facts.step_states(run, plan),
        "plan": plan.model_dump(mode="json"),
        "differences": repeat.differences(plan, history),
        "seeds": repeat.seeds(plan),
        "environment": environment,
        "versions": facts.versions(evidence, environment),
        "hardware": facts.hardware(environment, history),
        "timings": facts.timings(evidence),
        "files": facts.recorded_files(evidence),
        "commands": repeat.commands(plan, history, base, data),
        "attempts": history.attempts,
        "warnings": history.warnings,
        "gaps": facts.gaps(run, plan),
    }
    return Record(_writable(row), found, checks, tuple(gaps + transcript_gaps), tuple(control_problems), history)


def _transcript(evidence: Evidence, name: str) -> tuple[list[dict[str, Any]], list[Phrase]]:
    """The answers, each with a verdict made now."""
    try:
        rows = evidence.rows("chat", name)
        verdicts = judged_again(rows)
    except Gap as gap:
        return [], [gap.phrase]
    except (KeyError, TypeError, ValueError, AttributeError):
        return [], []  # the indicator says what is wrong with the file
    return [
        row | {"id": answered_id(row), "verdict": verdict.row() if verdict else None}
        for row, verdict in zip(rows, verdicts, strict=True)
    ], []


def _overrules(evidence: Evidence, rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The user's own verdicts on these answers; the indicator tells where their file is damaged."""
    try:
        return {name: asdict(decision) for name, decision in users_verdicts(evidence, rows).items()}
    except Gap:
        return {}


def _why_no_base(evidence: Evidence) -> str | None:
    """Why the base was not asked, as the step says."""
    said = facts.optional_json(evidence, "chat", "chat.json", dict) or {}
    base = said.get("base")
    return base.get("why") if isinstance(base, dict) else None


def _writable(value: Any) -> Any:
    """The same tree with null for what is not a finite number, which JSON does not know, and half characters by their
    number, which no file can hold."""
    if isinstance(value, dict):
        return {_writable(key): _writable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_writable(item) for item in value]
    if isinstance(value, str):
        return _HALF_CHARACTER.sub(lambda found: shown(found[0]), value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
