"""What the run log says besides its verdicts: data, phases, versions, timings, files, commands."""

import math
from typing import Any

from .. import plan as plans
from ..freshness import STEPS, State, states
from ..plan import Plan
from ..run_directory import RunDirectory
from ..search import schedule_space
from ..soul.schedule import critical_step, gate, half_open_step, phases
from .evidence import Evidence, Gap
from .history import History

PACKAGES = (
    *("Python", "torch", "transformers", "tokenizers", "safetensors", "peft", "accelerate", "datasets", "optuna"),
    *("numpy", "gguf", "libgguf", "xllamacpp", "bitsandbytes", "Ollama"),
)
HARDWARE = ("system", "processor", "GPU", "RAM")


def optional_json(evidence: Evidence, step: str, name: str, kind: type) -> Any:
    """Content of a file, or None where there is none of this kind (dict or list) that can be read."""
    try:
        content = evidence.json(step, name)
    except Gap:
        return None
    return content if isinstance(content, kind) else None


def environment(evidence: Evidence) -> list[dict[str, str]]:
    """The rows of the environment check."""
    rows = optional_json(evidence, "check", "check.json", list) or []
    keys = ("name", "status", "found", "fix")
    return [{key: str(row.get(key, "")) for key in keys} for row in rows if isinstance(row, dict)]


def versions(evidence: Evidence, rows: list[dict[str, str]]) -> dict[str, str]:
    """Package -> version as the check found it, and the version of AEGIS that finished each step."""
    found = {row["name"]: row["found"] for row in rows if row["name"] in PACKAGES and row["found"][:1].isdigit()}
    made_by = {step.id: done.version for step in STEPS if (done := evidence.done(step.id))}
    return {"AEGIS": ", ".join(sorted(set(made_by.values())))} | found


def hardware(rows: list[dict[str, str]], history: History) -> dict[str, Any]:
    """GPU and memory as the check found them, and the largest readings while the steps ran."""
    found: dict[str, Any] = {row["name"]: row["found"] for row in rows if row["name"] in HARDWARE}
    return found | history.peaks


def exported(evidence: Evidence) -> dict[str, Any]:
    """The entries of the GGUF files, and whether a Modelfile lies beside them."""
    files = optional_json(evidence, "export", "files.json", list) or []
    folders = {(evidence.run.path / str(row.get("path", ""))).parent for row in files if isinstance(row, dict)}
    return {"files": files, "modelfile": any((folder / "Modelfile").is_file() for folder in folders)}


def metrics(evidence: Evidence) -> list[dict[str, Any]]:
    """Rows of the training that can be drawn: those with a step and a finite loss and alpha."""
    try:
        rows = evidence.rows("train", "metrics.jsonl")
    except Gap:
        return []
    return [row for row in rows if all(_is_finite(row.get(name)) for name in ("step", "loss", "alpha"))]


def phase_table(plan: Plan, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each phase of the schedule with its steps (counted from 1), alpha and gate at both ends, and mean loss."""
    table: list[dict[str, Any]] = []
    for step, name in enumerate(phases(plan.train.steps, plan.soul), start=1):
        if not table or table[-1]["phase"] != name:
            table.append({"phase": name, "first_step": step})
        table[-1]["last_step"] = step
    by_step = {row["step"]: row for row in rows}
    for entry in table:
        inside = [by_step[i] for i in range(entry["first_step"], entry["last_step"] + 1) if i in by_step]
        entry["n_steps_done"] = len(inside)
        entry["mean_loss"] = sum(row["loss"] for row in inside) / len(inside) if inside else None
        entry["alpha_from"], entry["alpha_to"] = (inside[0]["alpha"], inside[-1]["alpha"]) if inside else (None, None)
    return table


def schedule_points(plan: Plan) -> dict[str, Any]:
    """Steps (counted from 1) of the schedule's critical point and of the half-open gate, and the gate at the end.

    No such points where alpha is learned: it follows no schedule.
    """
    if plan.soul.alpha == "learned":
        return {"kind": "learned", "critical_step": None, "half_open_step": None, "gate_final": None}
    half_open = half_open_step(plan.train.steps, plan.soul)
    return {
        "kind": plan.soul.schedule.kind,
        "critical_step": critical_step(plan.train.steps, plan.soul) + 1,
        "half_open_step": None if half_open is None else half_open + 1,
        "gate_final": gate(plan.soul.alpha_target),
    }


SPACE = {
    "search": (
        *("tokens_per_trial", "learning_rate_low", "learning_rate_high", "learning_rate_log", "batch_sizes"),
        *("warmup_steps_low", "warmup_steps_high", "alpha_warmup_low", "alpha_warmup_high", "ranks"),
        *("dropout_low", "dropout_high", "rotation_low", "rotation_high", "pruner", "minutes"),
    ),
    "schedule": ("smoothness_weight", "try_best", "tokens_per_trial"),
}
"""The settings of each search that say what was tried, and how; schedules are drawn from schedule_space as well."""


def studies(evidence: Evidence, plan: Plan) -> dict[str, dict[str, Any] | None]:
    """Each study with its trials by state and its best; None where it was switched off or did not run."""
    return {step: _study(evidence, plan, step) for step in ("search", "schedule")}


def _study(evidence: Evidence, plan: Plan, step: str) -> dict[str, Any] | None:
    trials = optional_json(evidence, step, "trials.json", list)
    if trials is None or not plans.get(plan, f"{step}.enabled"):
        return None
    trials = [trial for trial in trials if isinstance(trial, dict) and "state" in trial]
    by_state = {state: sum(t["state"] == state for t in trials) for state in ("COMPLETE", "PRUNED", "FAIL")}
    best = optional_json(evidence, step, "best.json", dict)
    seed = plans.get(plan, f"{step}.seed")
    wanted = {name: plans.get(plan, f"{step}.{name}") for name in SPACE[step]}
    space = {name: list(value) if isinstance(value, tuple) else value for name, value in wanted.items()}
    if step == "schedule":
        ranges = {name: f"{low:g}…{high:g}" for name, (low, high) in schedule_space.RANGES.items()}
        space = {"kind": list(schedule_space.KINDS), **ranges, **space}
    kept = plans.get(plan, f"{step}.storage")
    return {
        "sampler": "TPE",
        "seed": seed,
        "space": space,
        "shared_in": kept,
        "states": by_state,
        "best": best,
        "trials": trials,
    }


def recorded_files(evidence: Evidence) -> list[dict[str, Any]]:
    """Every output of every finished step with the hash it was recorded with, and whether it is the same now."""
    return [
        {
            "step": step.id,
            "path": artifact.path,
            "bytes": artifact.bytes,
            "sha256": artifact.sha256,
            "now": evidence.compared(artifact),
        }
        for step in STEPS
        if step.id != "report" and (done := evidence.done(step.id))
        for artifact in done.outputs
    ]


def timings(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """Step -> seconds of its last attempt, Unix time at which it finished, version of AEGIS that did it."""
    finished = {step.id: evidence.done(step.id) for step in STEPS if step.id != "report"}
    return {
        name: {"seconds": d.seconds, "finished_at": d.finished_at, "version": d.version}
        for name, d in finished.items()
        if d
    }


def step_states(run: RunDirectory, plan: Plan) -> dict[str, str]:
    """Where every step before the report stands."""
    return {name: str(state) for name, state in states(run, plan).items() if name != "report"}


def gaps(run: RunDirectory, plan: Plan) -> list[str]:
    """Steps that are neither finished nor switched off."""
    return [name for name, state in step_states(run, plan).items() if state not in (State.DONE, State.DISABLED)]


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
