"""What the run log says besides its verdicts: data, phases, versions, timings, files, commands."""

import math
from typing import Any

from .. import plan as plans
from ..events import Telemetry
from ..freshness import STEPS, State, states
from ..journal import replay
from ..plan import DEMO, Plan, demo_plan
from ..run_directory import RunDirectory
from ..search import schedule_space
from ..soul.schedule import critical_step, gate, half_open_step, phases
from .evidence import Evidence, Gap

PACKAGES = (
    *("Python", "torch", "transformers", "tokenizers", "safetensors", "peft", "datasets", "optuna"),
    *("gguf", "libgguf", "xllamacpp", "bitsandbytes", "Ollama"),
)
HARDWARE = ("GPU", "RAM")


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
    return [{key: str(row.get(key, "")) for key in ("name", "status", "found", "fix")} for row in rows]


def versions(evidence: Evidence, rows: list[dict[str, str]]) -> dict[str, str]:
    """Package -> version as the check found it, and the version of AEGIS that finished each step."""
    found = {row["name"]: row["found"] for row in rows if row["name"] in PACKAGES}
    made_by = {step.id: done.version for step in STEPS if (done := evidence.done(step.id))}
    return {"AEGIS": ", ".join(sorted(set(made_by.values())))} | found


def hardware(evidence: Evidence, rows: list[dict[str, str]]) -> dict[str, Any]:
    """GPU and memory as the check found them, and the largest readings while the steps ran."""
    found: dict[str, Any] = {row["name"]: row["found"] for row in rows if row["name"] in HARDWARE}
    readings = telemetry(evidence)
    for name in ("ram_own_bytes", "vram_own_bytes", "vram_used_bytes"):
        values = [value for reading in readings if (value := reading[name]) is not None]
        found[f"peak_{name}"] = max(values, default=None)
    return found


def telemetry(evidence: Evidence) -> list[dict[str, Any]]:
    """Memory readings of all steps before the report: at (seconds), stage, ram_own_bytes, vram_own_bytes, …"""
    return [
        {
            "at": event.at,
            "stage": event.stage,
            "ram_own_bytes": event.ram_own_bytes,
            "vram_own_bytes": event.vram_own_bytes,
            "vram_used_bytes": event.vram_used_bytes,
        }
        for event in replay(evidence.run.events_path)
        if isinstance(event, Telemetry) and event.stage != "report"
    ]


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
    """Every output of every finished step with the hash it was recorded with."""
    return [
        {"step": step.id, "path": artifact.path, "bytes": artifact.bytes, "sha256": artifact.sha256}
        for step in STEPS
        if step.id != "report" and (done := evidence.done(step.id))
        for artifact in done.outputs
    ]


def timings(evidence: Evidence) -> dict[str, dict[str, float]]:
    """Step -> seconds of its last attempt and Unix time at which it finished."""
    finished = {step.id: evidence.done(step.id) for step in STEPS if step.id != "report"}
    return {name: {"seconds": d.seconds, "finished_at": d.finished_at} for name, d in finished.items() if d}


def step_states(run: RunDirectory, plan: Plan) -> dict[str, str]:
    """Where every step before the report stands."""
    return {name: str(state) for name, state in states(run, plan).items() if name != "report"}


def gaps(run: RunDirectory, plan: Plan) -> list[str]:
    """Steps that are neither finished nor switched off."""
    return [name for name, state in step_states(run, plan).items() if state not in (State.DONE, State.DISABLED)]


def seeds(plan: Plan) -> dict[str, int]:
    """Every seed of the plan by its name."""
    return {
        name: value for name, value in flat(plan.model_dump(mode="json")).items() if name.rpartition(".")[2] == "seed"
    }


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every setting of a plan's tree by its full name."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def commands(plan: Plan) -> list[str]:
    """What to type to repeat this run: a new run with every setting that is not a default, and its start."""
    demo = plan.model.source == DEMO
    defaults = flat((demo_plan() if demo else Plan()).model_dump(mode="json"))
    differing = {name: value for name, value in flat(plan.model_dump(mode="json")).items() if value != defaults[name]}
    settings = "".join(f' --set "{name}={_typed(value)}"' for name, value in differing.items())
    return [
        f"aegis new REPEAT{' --demo' if demo else ''}{settings}",
        "aegis run REPEAT",
        "aegis verify REPEAT",
    ]


def _typed(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
