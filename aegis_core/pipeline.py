"""The ordered steps: runs them, skips what is fresh, resumes what was cut off; the one place that catches."""

import importlib
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from . import plan as plans
from .cancel import Cancelled, CancelToken
from .context import StepContext
from .events import Event, PlanChanged, StepCancelled, StepFailed, StepFinished, StepSkipped, StepStarted
from .failures import UsageError, UserError, explain
from .plan import Frozen, Plan
from .run_directory import Done, RunDirectory, read_json, sha256_of_json, write_json


@dataclass(frozen=True)
class Step:
    """`settings` are the plan's sections or fields the result depends on (a leading "-" takes one out again);
    `inputs` the steps whose results it reads; `optional` steps have an `enabled` setting in their own section.
    `owns` are the settings this step may write into the plan."""

    id: str
    settings: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    optional: bool = False
    owns: tuple[str, ...] = ()

    def run(self, plan: Plan, ctx: StepContext) -> None:
        importlib.import_module(f"aegis_core.steps.{self.id}").run(plan, ctx)


_SEARCHED = ("train.learning_rate", "train.batch_size", "train.warmup_steps", "soul.schedule.warmup_fraction")
_TRAINING = ("lora", "soul", "train")

STEPS: tuple[Step, ...] = (
    Step("check"),
    Step("prepare", ("model", "data")),
    Step(
        "search",
        ("search", *_TRAINING, *(f"-{name}" for name in (*_SEARCHED, "soul.schedule"))),
        ("prepare",),
        True,
        _SEARCHED,
    ),
    Step(
        "schedule", ("schedule", "train.steps", "soul.alpha_start", "soul.alpha_target"), (), True, ("soul.schedule",)
    ),
    Step("train", _TRAINING, ("prepare",)),
    Step("fuse", ("fuse",), ("train",)),
    Step("export", ("export",), ("fuse",)),
    Step("chat", ("chat",), ("export",)),
    Step("report", ("report",), ("check", "prepare", "search", "schedule", "train", "fuse", "export", "chat")),
)
BY_ID = {step.id: step for step in STEPS}


class State(StrEnum):
    """Where a step stands: `ready` can run now, `waiting` needs an earlier step first, `stale` was done before a change."""

    DONE = "done"
    STALE = "stale"
    READY = "ready"
    WAITING = "waiting"
    DISABLED = "disabled"


def states(run: RunDirectory, plan: Plan) -> dict[str, State]:
    """The state of every step under this plan, judged from the files alone."""
    found: dict[str, State] = {}
    for step in STEPS:
        found[step.id] = _state(run, plan, step, found)
    return found


def selection(only: str | None = None, first: str | None = None, last: str | None = None) -> tuple[Step, ...]:
    """The steps a command asks for; UsageError for an unknown one or for --only together with a range."""
    ids = [step.id for step in STEPS]
    for name in (only, first, last):
        if name is not None and name not in BY_ID:
            raise UsageError("There is no step {name}.", "The steps are {steps}.", name=name, steps=", ".join(ids))
    if only:
        if first or last:
            raise UsageError("--only cannot go together with --from or --to.", "Give one of them.")
        return (BY_ID[only],)
    return STEPS[ids.index(first) if first else 0 : ids.index(last) + 1 if last else None]


def run_steps(
    run: RunDirectory, steps: tuple[Step, ...], sink: Callable[[Event], None], cancel: CancelToken, again: bool = False
) -> Event | None:
    """Run the steps in order until one does not finish; returns the last terminal event (None if all were fresh).

    `again` runs a step even if it is fresh. `sink` gets every event, stamped.
    """
    last: Event | None = None
    for step in steps:
        plan = run.plan()
        ctx = StepContext(run, step.id, sink, cancel)
        state = states(run, plan)[step.id]
        if state is State.DISABLED:
            ctx.emit(StepSkipped("disabled"))
            continue
        if state is State.DONE and not again:
            ctx.emit(StepSkipped("fresh"))
            continue
        last = _run_one(step, plan, ctx)
        if not isinstance(last, StepFinished) or cancel.stopping_after_step:
            return last
    return last


def _run_one(step: Step, plan: Plan, ctx: StepContext) -> Event:
    started = time.monotonic()
    inputs = _input_digests(ctx.run, plan, step)
    ctx.emit(StepStarted(resumed=_begun_alike(ctx.run, plan, step, inputs)))
    terminal: Event
    try:
        if missing := _unfinished(ctx.run, plan, step):
            raise UserError(
                "{step} needs the result of an earlier step first: {missing}.",
                "Run the steps in order; aegis run without --only does.",
                step=step.id,
                missing=", ".join(missing),
            )
        ctx.cancel.check()
        _begin(ctx.run, plan, step, inputs)
        step.run(plan, ctx)
        done = ctx.run.write_done(
            step.id, settings_digest(plan, step), inputs, ctx.artifacts, time.monotonic() - started
        )
        shutil.rmtree(ctx.run.previous_folder(step.id), ignore_errors=True)
        _apply_results(step, plan, ctx)
        terminal = StepFinished(done.seconds)
    except Cancelled:
        terminal = StepCancelled()
    except Exception as error:  # the one boundary: every step's error becomes a sentence here
        failure = explain(error)
        trace = "".join(traceback.format_exception(error))
        terminal = StepFailed(
            failure.reason, failure.advice, trace, failure.reason_template, failure.advice_template, failure.values
        )
    ctx.emit(terminal)
    return terminal


def _begun_alike(run: RunDirectory, plan: Plan, step: Step, inputs: dict[str, str]) -> bool:
    """Whether an unfinished attempt with the same settings and inputs lies there, to be continued."""
    path = run.step_folder(step.id) / "begun.json"
    return path.is_file() and read_json(path) == {"settings": settings_digest(plan, step), "inputs": inputs}


def _begin(run: RunDirectory, plan: Plan, step: Step, inputs: dict[str, str]) -> None:
    """Make the step's folder ready: continue an attempt of the same kind, put any other result aside until this one is done."""
    folder = run.step_folder(step.id)
    if folder.exists() and (run.done(step.id) or not _begun_alike(run, plan, step, inputs)):
        previous = run.previous_folder(step.id)
        shutil.rmtree(previous, ignore_errors=True)
        previous.parent.mkdir(exist_ok=True)
        folder.replace(previous)
    folder.mkdir(exist_ok=True)
    write_json(folder / "begun.json", {"settings": settings_digest(plan, step), "inputs": inputs})


def settings_digest(plan: Plan, step: Step) -> str:
    """Hash of the settings the step's result depends on, cosmetic ones left out."""
    tree = _substance(plan)
    kept: dict[str, Any] = {}
    for name in step.settings:
        if name.startswith("-"):
            for key in [k for k in kept if k == name[1:] or k.startswith(name[1:] + ".")]:
                del kept[key]
        else:
            kept |= {k: v for k, v in tree.items() if k == name or k.startswith(name + ".")}
    return sha256_of_json(kept)


def _substance(model: Frozen, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        extra = info.json_schema_extra
        if isinstance(value, Frozen):
            flat |= _substance(value, f"{prefix}{name}.")
        elif not (isinstance(extra, dict) and extra.get("cosmetic")):
            flat[prefix + name] = value
    return flat


def _state(run: RunDirectory, plan: Plan, step: Step, earlier: dict[str, State]) -> State:
    if _disabled(plan, step):
        return State.DISABLED
    done = run.done(step.id)
    inputs_done = all(earlier[name] in (State.DONE, State.DISABLED) for name in step.inputs)
    if done is None:
        return State.READY if inputs_done else State.WAITING
    return State.DONE if inputs_done and _is_fresh(run, plan, step, done) else State.STALE


def _is_fresh(run: RunDirectory, plan: Plan, step: Step, done: Done) -> bool:
    return (
        done.settings_sha256 == settings_digest(plan, step)
        and done.inputs == _input_digests(run, plan, step)
        and not run.missing_outputs(done)
    )


def _input_digests(run: RunDirectory, plan: Plan, step: Step) -> dict[str, str]:
    """Digest of each finished step this one reads; switched-off ones do not count."""
    read = [name for name in step.inputs if not _disabled(plan, BY_ID[name])]
    found = {name: run.done(name) for name in read}
    return {name: done.digest for name, done in found.items() if done}


def _unfinished(run: RunDirectory, plan: Plan, step: Step) -> list[str]:
    now = states(run, plan)
    return [name for name in step.inputs if now[name] not in (State.DONE, State.DISABLED)]


def _disabled(plan: Plan, step: Step) -> bool:
    return step.optional and not plans.get(plan, f"{step.id}.enabled")


def _apply_results(step: Step, plan: Plan, ctx: StepContext) -> None:
    """Write what a search found into the plan, as far as it owns it; a later search's settings win."""
    path = ctx.folder / "best.json"
    if not step.optional or not plans.get(plan, f"{step.id}.apply") or not path.is_file():
        return
    later = STEPS[STEPS.index(step) + 1 :]
    taken = [
        name for other in later if other.optional and plans.get(plan, f"{other.id}.enabled") for name in other.owns
    ]
    new = {name: value for name, value in read_json(path)["changes"].items() if not _covered(name, taken)}
    old = {name: plans.get(plan, name) for name in new}
    if old == new:
        return
    ctx.run.write_plan(plans.changed(plan, new))
    ctx.emit(PlanChanged(old, new, step.id))


def _covered(name: str, prefixes: list[str]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)
