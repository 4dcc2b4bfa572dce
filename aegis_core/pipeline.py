"""The ordered steps: runs them, skips what is fresh, resumes what was cut off; the one place that catches."""

import contextlib
import gc
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from . import pace
from . import plan as plans
from .cancel import Cancelled, CancelToken
from .chat.ollama_room import free_memory
from .context import StepContext
from .events import (
    Artifact,
    Event,
    PlanChanged,
    StepCancelled,
    StepFailed,
    StepFinished,
    StepSkipped,
    StepStarted,
    note,
    warning,
)
from .failures import UsageError, UserError, explain
from .freshness import (
    BY_ID,
    STEPS,
    State,
    Step,
    begun_alike,
    extension_of,
    input_digests,
    misfits,
    only_adds,
    settings_of,
    states,
    unfinished,
    why_stale,
)
from .models.memory_advice import with_smaller_settings
from .plan import Plan
from .run_directory import BEFORE, BEGUN, RunDirectory, read_done, read_json, rename, sha256_of_file, write_json
from .search.applying import allowed
from .unharmed import remember, require_unharmed

__all__ = ["BY_ID", "STEPS", "State", "Step", "run_steps", "selection", "states", "why_stale"]
NEED_MEMORY = ("search", "schedule", "train", "fuse", "export")
"""Steps that load the model: one that Ollama still holds from a chat would take the card's memory from them."""
REPORT_FILES = ("report.json", "report.md", "report.html")


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
    chosen = STEPS[ids.index(first) if first else 0 : ids.index(last) + 1 if last else None]
    if not chosen:
        raise UsageError(
            "{first} comes after {last}.", "The steps are {steps}.", first=first, last=last, steps=", ".join(ids)
        )
    return chosen


def run_steps(
    run: RunDirectory, steps: tuple[Step, ...], sink: Callable[[Event], None], cancel: CancelToken, again: bool = False
) -> Event | None:
    """Run the steps in order until one does not finish; returns the last terminal event (None if all were fresh).

    `again` runs a step even if it is fresh. `sink` gets every event, stamped. UserError, before any step has started,
    if plan or markers cannot be read.
    """
    last: Event | None = None
    for step in STEPS:  # a kill may have cut off an addition to any step that these build on
        _settle_addition(run, step)
    for step in steps:
        plan = run.plan()
        ctx = StepContext(run, step.id, sink, cancel)
        if not again and _restore(run, plan, step):
            ctx.emit(note("The earlier result of {step} fits the settings again and is kept.", step=step.id))
        state = states(run, plan)[step.id]
        if state is State.DISABLED:
            ctx.emit(StepSkipped("disabled"))
            continue
        if state is State.DONE and not again:
            _forget_previous(run, step)  # left over if a kill came just after the marker
            ctx.emit(StepSkipped("fresh"))
            continue
        last = _run_one(step, plan, ctx)
        if not isinstance(last, StepFinished) or cancel.stopping_after_step:
            return last
    return last


def _run_one(step: Step, plan: Plan, ctx: StepContext) -> Event:
    started = time.monotonic()
    inputs = input_digests(ctx.run, plan, step)
    resumed = begun_alike(ctx.run, plan, step, inputs) or only_adds(ctx.run, plan, step)
    ctx.emit(StepStarted(resumed=resumed))
    terminal: Event
    try:
        if missing := unfinished(ctx.run, plan, step):
            raise UserError(
                "{step} needs the result of an earlier step first: {missing}.",
                "Run the steps in order; aegis run without --only does.",
                step=step.id,
                missing=", ".join(missing),
            )
        ctx.cancel.check()
        if step.id in NEED_MEMORY:
            free_memory(ctx.emit)
        require_unharmed(plan, step, ctx)
        _begin(ctx.run, plan, step, inputs)
        step.run(plan, ctx)
        # the plan first: were the marker there already, a kill in between would lose what the search found
        _apply_results(step, ctx)
        seconds = time.monotonic() - started
        done = ctx.run.write_done(
            step.id, settings_of(plan, step), inputs, ctx.artifacts, seconds, extension_of(plan, step)
        )
        remember(ctx.run, done)
        _forget_previous(ctx.run, step)
        if not resumed:
            _remember_pace(ctx, plan, step, done.seconds)
        terminal = StepFinished(done.seconds)
    except Cancelled:
        terminal = StepCancelled()
    except (Exception, SystemExit) as error:  # the one boundary: every step's error becomes a sentence here
        failure = explain(error)
        trace = "".join(traceback.format_exception(error))
        terminal = StepFailed(
            failure.reason,
            failure.advice,
            trace,
            failure.reason_template,
            failure.advice_template,
            failure.values,
            failure.changes,
            stage=step.id,
        )
        terminal = with_smaller_settings(terminal, ctx.run, plan)
    _settle_addition(ctx.run, step)
    if "torch" in sys.modules:
        gc.collect()  # models hold themselves in cycles; the next step needs the memory
    ctx.emit(terminal)
    return terminal


def _remember_pace(ctx: StepContext, plan: Plan, step: Step, seconds: float) -> None:
    """For the next time. The result is there already: a full or locked user folder must not make it a failed one."""
    try:
        pace.remember(ctx.run, plan, step.id, seconds)
    except OSError as error:
        ctx.emit(warning("How long this took could not be noted for the next time: {error}.", error=error))


def _begin(run: RunDirectory, plan: Plan, step: Step, inputs: dict[str, str]) -> None:
    """Make the step's folder ready: continue an attempt of the same kind, add to a result that only asks for more,
    put aside anything else."""
    folder = run.step_folder(step.id)
    adds = only_adds(run, plan, step)
    if folder.exists() and not adds and not begun_alike(run, plan, step, inputs):
        _put_aside(run, step)
    _retire_report(run)
    folder.mkdir(exist_ok=True)
    write_json(folder / BEGUN, {"settings": settings_of(plan, step), "inputs": inputs})
    if adds:
        rename(folder / "done.json", folder / BEFORE)


def _settle_addition(run: RunDirectory, step: Step) -> None:
    """An addition that was cut off leaves the result it was to be added to, with its evidence as it is now."""
    folder = run.step_folder(step.id)
    before = read_done(folder, BEFORE)
    if before is None:
        return
    if read_done(folder) is None:
        outputs = [replace(a, sha256="") if a.evidence else a for a in before.outputs if run.output_path(a).is_file()]
        run.write_done(step.id, before.settings, before.inputs, outputs, before.seconds, before.extension)
    (folder / BEFORE).unlink()


def _retire_report(run: RunDirectory) -> None:
    """Move the run log aside as soon as any step begins: it must not stand there green while its run changes."""
    aside = run.previous_folder("report")
    for name in REPORT_FILES:
        if (run.path / name).is_file():
            aside.mkdir(parents=True, exist_ok=True)
            rename(run.path / name, aside / name)


def _put_aside(run: RunDirectory, step: Step) -> None:
    """Move the step's folder to previous/; an unfinished attempt never takes the place of a finished result there."""
    folder, previous = run.step_folder(step.id), run.previous_folder(step.id)
    if run.done(step.id) is None and (previous / "done.json").is_file():
        _discard(folder)
        return
    _discard(previous)
    previous.parent.mkdir(exist_ok=True)
    rename(folder, previous)


def _restore(run: RunDirectory, plan: Plan, step: Step) -> bool:
    """Bring the previous finished result back where it is what the plan asks for again (a change was undone)."""
    folder, previous = run.step_folder(step.id), run.previous_folder(step.id)
    done = read_done(previous)
    if done is None or run.done(step.id) or begun_alike(run, plan, step, input_digests(run, plan, step)):
        return False
    if misfits(run, plan, step, done) or not all(_still_there(previous.parent, a) for a in done.outputs):
        return False
    _discard(folder)
    rename(previous, folder)
    return True


def _still_there(aside: Path, artifact: Artifact) -> bool:
    """Whether an output put aside is whole; one outside the run may have been overwritten by the later attempt."""
    path = aside / artifact.path
    if not path.is_file() or path.stat().st_size != artifact.bytes:
        return False
    return not Path(artifact.path).is_absolute() or sha256_of_file(path) == artifact.sha256


def _forget_previous(run: RunDirectory, step: Step) -> None:
    """As far as possible: what another program holds open (Windows) must not make a finished step a failed one."""
    with contextlib.suppress(PermissionError):
        _discard(run.previous_folder(step.id))


def _discard(folder: Path) -> None:
    """Delete a step's folder, its markers first: a kill in between must not leave half of it looking whole."""
    for name in ("done.json", BEGUN):
        (folder / name).unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)


def _apply_results(step: Step, ctx: StepContext) -> None:
    """Write what a search found into the plan, as far as it owns it; a later search's settings win."""
    path = ctx.folder / "best.json"
    plan = ctx.run.plan()
    if not step.optional or not plans.get(plan, f"{step.id}.apply") or not path.is_file():
        return
    new = allowed(plan, step, read_json(path)["changes"])
    old = {name: plans.get(plan, name) for name in new}
    if old == new:
        return
    ctx.run.write_plan(plans.changed(plan, new))
    ctx.emit(PlanChanged(old, new, step.id))
