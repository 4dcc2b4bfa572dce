"""The nine steps, what each depends on, and where each stands: judged from the files alone.

A finished step stays fresh until a setting it depends on, a result it read or a file it left is another one now.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from . import plan as plans
from .context import StepContext
from .plan import DEMO, PHYSICS, Frozen, Plan
from .run_directory import BEGUN, Done, RunDirectory, read_json


@dataclass(frozen=True)
class Step:
    """`settings` are the plan's sections or fields the result depends on (a leading "-" takes one out again);
    `inputs` the steps whose results it reads; `optional` steps have an `enabled` setting in their own section.
    `owns` are the settings this step may write into the plan. `reads` are the settings that may name
    files of the user's, which the result depends on as well. A step that `shows_gaps` runs with whatever results
    there are. What `extends` names only adds to the result: a change there makes the step run again, but on top of
    what it has. `searches` pairs a setting with the one that says whether this step looks for it: then the result does
    not depend on it. `beside` are steps whose results it reads as well, though `inputs` vouch for which these are.
    `when` names a setting that, where it is on, makes the result depend on more settings and steps.
    """

    id: str
    settings: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    optional: bool = False
    owns: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    shows_gaps: bool = False
    extends: tuple[str, ...] = ()
    searches: tuple[tuple[str, str], ...] = ()
    when: tuple[str, tuple[str, ...], tuple[str, ...]] = ("", (), ())
    beside: tuple[str, ...] = ()

    def run(self, plan: Plan, ctx: StepContext) -> None:
        importlib.import_module(f"aegis_core.steps.{self.id}").run(plan, ctx)


_SEARCHED = ("train.learning_rate", "train.batch_size", "train.warmup_steps", "soul.schedule.warmup_fraction")
_OPTIONAL = (
    ("lora.rank", "search.ranks"),
    ("lora.dropout", "search.dropout_high"),
    ("soul.rotation_learning_rate", "search.rotation_high"),
)
_MORE_TRIALS = ("search.n_trials", "search.minutes", "search.apply", "search.compare", "search.repeats")
_MORE_SCHEDULES = ("schedule.n_trials", "schedule.apply", "schedule.try_best", "schedule.tokens_per_trial")
_TRAINING = ("lora", "soul", "train")

STEPS: tuple[Step, ...] = (
    Step("check"),
    Step("prepare", ("model", "data"), reads=("model.source", "data.source")),
    Step(
        "search",
        ("search", *_TRAINING, *(f"-{name}" for name in (*_MORE_TRIALS, *_SEARCHED, "soul.schedule", "train.steps"))),
        ("prepare",),
        True,
        (*_SEARCHED, *(name for name, _ in _OPTIONAL)),
        extends=_MORE_TRIALS,
        searches=_OPTIONAL,
    ),
    Step(
        "schedule",
        ("schedule", "train.steps", "soul.alpha_start", "soul.alpha_target", *(f"-{name}" for name in _MORE_SCHEDULES)),
        (),
        True,
        ("soul.schedule",),
        extends=_MORE_SCHEDULES,
        when=("schedule.try_best", (*_TRAINING, "-soul.schedule", "-train.steps"), ("prepare",)),
    ),
    Step("train", _TRAINING, ("prepare",), extends=("control", "evaluation")),
    Step("fuse", ("fuse",), ("train",), extends=("evaluation",), beside=("prepare",)),
    Step("export", ("export", "chat.model_name"), ("fuse",), extends=("evaluation",), beside=("prepare", "train")),
    Step("chat", ("chat",), ("export",), beside=("prepare",)),
    Step(
        "report",
        ("report",),
        ("check", "prepare", "search", "schedule", "train", "fuse", "export", "chat"),
        shows_gaps=True,
    ),
)
BY_ID = {step.id: step for step in STEPS}


class State(StrEnum):
    """Where a step stands: `ready` can run, `waiting` needs an earlier step, `stale` was done before a change."""

    DONE = "done"
    STALE = "stale"
    READY = "ready"
    WAITING = "waiting"
    DISABLED = "disabled"


def inputs_of(plan: Plan, step: Step) -> tuple[str, ...]:
    """The steps whose results it reads under this plan."""
    flag, _, more = step.when
    return (*step.inputs, *(more if flag and plans.get(plan, flag) else ()))


def states(run: RunDirectory, plan: Plan) -> dict[str, State]:
    """The state of every step under this plan, judged from the files alone."""
    found: dict[str, State] = {}
    for step in STEPS:
        found[step.id] = _state(run, plan, step, found)
    return found


def why_stale(run: RunDirectory, plan: Plan, step: Step) -> list[str]:
    """What no longer fits the finished result: names of changed settings, changed input steps, missing files."""
    done = run.done(step.id)
    if done is None:
        return []
    return [*misfits(run, plan, step, done), *extended(plan, step, done), *map(str, run.missing_outputs(done))]


def settings_of(plan: Plan, step: Step) -> dict[str, Any]:
    """The settings the step's result depends on, by name and as JSON values, cosmetic ones left out."""
    flag, more, _ = step.when
    kept = _named(plan, (*(more if flag and plans.get(plan, flag) else ()), *step.settings))
    for name, looked_for in step.searches:
        if plans.get(plan, looked_for):
            kept.pop(name, None)
    return kept | {f"{name} on disk": _on_disk(str(plans.get(plan, name))) for name in step.reads}


def extension_of(plan: Plan, step: Step) -> dict[str, Any]:
    """The settings that only add to the step's result, by name and as JSON values."""
    return _named(plan, step.extends)


def _named(plan: Plan, names: tuple[str, ...]) -> dict[str, Any]:
    tree = _substance(plan)
    kept: dict[str, Any] = {}
    for name in names:
        if name.startswith("-"):
            for key in [k for k in kept if k == name[1:] or k.startswith(name[1:] + ".")]:
                del kept[key]
        else:
            kept |= {k: v for k, v in tree.items() if k == name or k.startswith(name + ".")}
    return kept


def _on_disk(source: str) -> list[list[Any]]:
    """Name, size and time of the file a setting names, or of the files directly in the folder it names."""
    if source in (DEMO, PHYSICS):
        return []
    path = Path(source).expanduser()
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    known = [(file.name, file.stat()) for file in files if file.is_file()]
    return [[name, status.st_size, status.st_mtime_ns] for name, status in known]


@lru_cache(maxsize=256)
def _substance(model: Frozen, prefix: str = "") -> Mapping[str, Any]:
    """Every setting but the cosmetic ones, by name. Kept for the latest plans: the list of runs asks for them often."""
    flat: dict[str, Any] = {}
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        extra = info.json_schema_extra
        if isinstance(value, Frozen):
            flat |= _substance(value, f"{prefix}{name}.")
        elif not (isinstance(extra, dict) and extra.get("cosmetic")):
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return MappingProxyType(flat)


def _state(run: RunDirectory, plan: Plan, step: Step, earlier: dict[str, State]) -> State:
    if disabled(plan, step):
        return State.DISABLED
    done = run.done(step.id)
    inputs = {earlier[name] for name in inputs_of(plan, step)}
    fed = inputs <= {State.DONE, State.DISABLED}
    if done is None:
        return State.READY if fed or step.shows_gaps else State.WAITING
    usable = State.STALE not in inputs if step.shows_gaps else fed
    return State.DONE if usable and not why_stale(run, plan, step) else State.STALE


def misfits(run: RunDirectory, plan: Plan, step: Step, done: Done) -> list[str]:
    """Settings and input steps that differ from those a result was made with."""
    now = input_digests(run, plan, step)
    inputs = [name for name in {**done.inputs, **now} if done.inputs.get(name) != now.get(name)]
    return [*changed_settings(done.settings, plan, step), *inputs]


def extended(plan: Plan, step: Step, done: Done) -> list[str]:
    """Names of settings that ask for more (or less) beside a result which fits otherwise."""
    default = extension_of(Plan(), step)
    now = extension_of(plan, step)
    return [name for name, value in now.items() if value != done.extension.get(name, default[name])]


def only_adds(run: RunDirectory, plan: Plan, step: Step) -> bool:
    """Whether a whole result lies there to which the plan merely adds."""
    done = run.done(step.id)
    return (
        done is not None
        and bool(extended(plan, step, done))
        and not misfits(run, plan, step, done)
        and not run.missing_outputs(done)
    )


def changed_settings(recorded: dict[str, Any], plan: Plan, step: Step) -> list[str]:
    """Names whose value is another one now. A setting younger than the record counts as having had its default."""
    default = settings_of(Plan(), step)
    return [name for name, value in settings_of(plan, step).items() if value != recorded.get(name, default[name])]


def input_digests(run: RunDirectory, plan: Plan, step: Step) -> dict[str, str]:
    """Digest of each finished step this one reads; switched-off ones do not count."""
    read = [name for name in inputs_of(plan, step) if not disabled(plan, BY_ID[name])]
    found = {name: run.done(name) for name in read}
    return {name: done.full_digest if step.shows_gaps else done.digest for name, done in found.items() if done}


def begun_alike(run: RunDirectory, plan: Plan, step: Step, inputs: dict[str, str]) -> bool:
    """Whether an unfinished attempt with the same settings and inputs lies there, to be continued."""
    path = run.step_folder(step.id) / BEGUN
    if not path.is_file() or (path.parent / "done.json").is_file():
        return False
    try:
        row = read_json(path)
        return row["inputs"] == inputs and not changed_settings(row["settings"], plan, step)
    except (ValueError, TypeError, KeyError, AttributeError):  # damaged, or of an older form: not to be continued
        return False


def unfinished(run: RunDirectory, plan: Plan, step: Step) -> list[str]:
    """The steps it needs, and those that these need, that are not done."""
    if step.shows_gaps:
        return []
    now, needed = states(run, plan), [*inputs_of(plan, step)]
    for name in needed:
        needed += [further for further in inputs_of(plan, BY_ID[name]) if further not in needed]
    return [one.id for one in STEPS if one.id in needed and now[one.id] not in (State.DONE, State.DISABLED)]


def disabled(plan: Plan, step: Step) -> bool:
    return step.optional and not plans.get(plan, f"{step.id}.enabled")
