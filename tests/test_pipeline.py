"""The order of things: what runs, what is skipped, what continues, and that no finished result is ever lost."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aegis_core.cancel import Cancelled, CancelToken
from aegis_core.context import StepContext
from aegis_core.events import (
    Event,
    PlanChanged,
    StepCancelled,
    StepFailed,
    StepFinished,
    StepSkipped,
    StepStarted,
)
from aegis_core.failures import UsageError, UserError
from aegis_core.pipeline import BY_ID, REPORT_FILES, STEPS, Step, run_steps, selection, states, why_stale
from aegis_core.plan import Plan, changed, demo_plan
from aegis_core.run_directory import RunDirectory, write_json

Work = Callable[[Plan, StepContext], None]
NAMES = ("check", "prepare", "search", "schedule", "train", "fuse", "export", "chat", "report")


def write_result(plan: Plan, ctx: StepContext) -> None:
    path = ctx.folder / "result.txt"
    path.write_text(f"{ctx.stage} after {plan.train.steps} steps", encoding="utf-8")
    ctx.artifact(path)


def write_half_and_fail(plan: Plan, ctx: StepContext) -> None:
    (ctx.folder / "half.txt").write_text("half", encoding="utf-8")
    raise UserError("It went wrong.", "Try again.")


@dataclass(frozen=True)
class TinyStep(Step):
    """One of the nine with its real place in the ritual and tiny work."""

    work: Work = write_result

    def run(self, plan: Plan, ctx: StepContext) -> None:
        self.work(plan, ctx)


@dataclass
class Ritual:
    run: RunDirectory

    def perform(self, again: bool = False, only: str = "", **work: Work) -> list[Event]:
        steps = tuple(TinyStep(**vars(step), work=work.get(step.id, write_result)) for step in STEPS)
        heard: list[Event] = []
        token = CancelToken()
        self.token = token
        self.last = run_steps(self.run, tuple(s for s in steps if only in ("", s.id)), heard.append, token, again)
        return heard

    def change(self, **changes: Any) -> None:
        names = {name.replace("__", "."): value for name, value in changes.items()}
        self.run.write_plan(changed(self.run.plan(), names))

    def states(self) -> dict[str, str]:
        return {name: str(state) for name, state in states(self.run, self.run.plan()).items()}

    def text(self, step: str) -> str:
        return (self.run.path / step / "result.txt").read_text(encoding="utf-8")


@pytest.fixture
def ritual(tmp_path: Path) -> Ritual:
    return Ritual(RunDirectory.create(tmp_path / "ri tual 日本語", demo_plan()))


def ran(events: list[Event]) -> list[str]:
    return [event.stage for event in events if isinstance(event, StepStarted)]


def test_the_steps_are_the_nine_and_each_reads_only_earlier_ones() -> None:
    assert tuple(step.id for step in STEPS) == NAMES
    for n, step in enumerate(STEPS):
        assert set(step.inputs) <= {earlier.id for earlier in STEPS[:n]}


def test_a_fresh_run_does_everything_once_and_the_second_time_nothing(ritual: Ritual) -> None:
    assert ran(ritual.perform()) == [name for name in NAMES if name not in ("search", "schedule")]
    second = ritual.perform()
    assert ran(second) == []
    assert [e.reason for e in second if isinstance(e, StepSkipped)] == [
        "disabled" if name in ("search", "schedule") else "fresh" for name in NAMES
    ]
    assert ritual.last is None


def test_a_changed_setting_makes_its_step_and_what_follows_stale_and_says_which(ritual: Ritual) -> None:
    ritual.perform()
    ritual.change(train__steps=90)
    stale = [name for name, state in ritual.states().items() if state == "stale"]
    assert stale == ["train", "fuse", "export", "chat", "report"]
    assert why_stale(ritual.run, ritual.run.plan(), BY_ID["train"]) == ["train.steps"]
    assert ran(ritual.perform()) == stale
    assert ritual.text("train") == "train after 90 steps"


@pytest.mark.parametrize(
    ("name", "value", "first_stale"),
    [
        ("model.source", "x", "prepare"),
        ("lora.rank", 8, "train"),
        ("soul.schedule.kind", "linear", "train"),
        ("fuse.directory", "x", "fuse"),
        ("export.types", ("f16",), "export"),
        ("chat.n_questions", 1, "chat"),
        ("search.n_trials", 3, None),
        ("train.checkpoint_steps", 7, None),
        ("report.language", "en", "report"),
    ],
)
def test_each_setting_touches_the_steps_that_depend_on_it(
    ritual: Ritual, name: str, value: Any, first_stale: str | None
) -> None:
    ritual.perform()
    ritual.run.write_plan(changed(ritual.run.plan(), {name: value}))
    stale = [step for step, state in ritual.states().items() if state == "stale"]
    expected = [] if first_stale is None else NAMES[NAMES.index(first_stale) :]
    assert stale == [step for step in expected if step not in ("search", "schedule")]


def test_a_setting_that_a_later_release_adds_leaves_old_results_fresh_while_it_has_its_default(ritual: Ritual) -> None:
    ritual.perform()
    path = ritual.run.path / "train" / "done.json"
    row = json.loads(path.read_text(encoding="utf-8"))
    del row["self_sha256"]
    del row["settings"]["lora.dropout"]  # as if this release had been the first to know it
    path.write_text(json.dumps(row), encoding="utf-8")
    assert why_stale(ritual.run, ritual.run.plan(), BY_ID["train"]) == []
    ritual.change(lora__dropout=0.2)
    assert why_stale(ritual.run, ritual.run.plan(), BY_ID["train"]) == ["lora.dropout"]


def test_a_missing_or_shortened_output_makes_its_step_stale(ritual: Ritual) -> None:
    ritual.perform()
    path = ritual.run.path / "export" / "result.txt"
    path.write_text("short", encoding="utf-8")
    assert ritual.states()["export"] == "stale"
    assert ritual.states()["fuse"] == "done"
    path.unlink()
    assert ran(ritual.perform()) == ["export"]  # the same file again: what read it needs no second run
    assert ritual.states()["export"] == "done"


def test_a_failed_step_is_one_sentence_ends_the_run_and_leaves_earlier_results(ritual: Ritual) -> None:
    events = ritual.perform(fuse=write_half_and_fail)
    failed = events[-1]
    assert isinstance(failed, StepFailed)
    assert (failed.stage, failed.reason, failed.advice) == ("fuse", "It went wrong.", "Try again.")
    assert ritual.states() | {} == {
        **dict.fromkeys(("check", "prepare", "train"), "done"),
        **dict.fromkeys(("search", "schedule"), "disabled"),
        **dict.fromkeys(("export", "chat"), "waiting"),
        **dict.fromkeys(("fuse", "report"), "ready"),  # the report shows what is missing as gaps
    }


@pytest.mark.parametrize("error", [ValueError("two plus two"), SystemExit("a library gave up"), MemoryError()])
def test_whatever_a_step_raises_becomes_a_failure_with_its_trace(ritual: Ritual, error: BaseException) -> None:
    def stumble(plan: Plan, ctx: StepContext) -> None:
        raise error

    failed = ritual.perform(check=stumble)[-1]
    assert isinstance(failed, StepFailed)
    assert "stumble" in failed.traceback
    assert "\n" not in failed.reason


def test_a_green_report_steps_aside_as_soon_as_its_run_changes(ritual: Ritual) -> None:
    ritual.perform()
    for name in REPORT_FILES:
        (ritual.run.path / name).write_text("all is well", encoding="utf-8")
    ritual.run.write_plan(changed(ritual.run.plan(), {"lora.rank": 3}))
    ritual.perform(fuse=write_half_and_fail)
    assert [name for name in REPORT_FILES if (ritual.run.path / name).exists()] == []
    assert (ritual.run.path / "previous" / "report" / "report.json").is_file()


def test_a_step_out_of_order_is_refused(ritual: Ritual) -> None:
    failed = ritual.perform(only="fuse")[-1]
    assert isinstance(failed, StepFailed)
    assert "train" in failed.reason
    assert not (ritual.run.path / "fuse").exists()


def test_an_attempt_that_was_cut_off_finds_its_files_again(ritual: Ritual) -> None:
    def cut_off(plan: Plan, ctx: StepContext) -> None:
        (ctx.folder / "checkpoint").write_text("7", encoding="utf-8")
        self_token.cancel()
        ctx.cancel.check()

    def go_on(plan: Plan, ctx: StepContext) -> None:
        assert (ctx.folder / "checkpoint").read_text(encoding="utf-8") == "7"
        write_result(plan, ctx)

    heard: list[Event] = []
    self_token = CancelToken()
    steps = (TinyStep(**vars(BY_ID["check"]), work=cut_off),)
    assert isinstance(run_steps(ritual.run, steps, heard.append, self_token), StepCancelled)
    events = ritual.perform(check=go_on, only="check")
    assert isinstance(events[0], StepStarted) and events[0].resumed
    assert isinstance(ritual.last, StepFinished)


def test_an_attempt_with_other_settings_starts_from_nothing(ritual: Ritual) -> None:
    ritual.perform(train=write_half_and_fail)
    ritual.change(train__steps=90)

    def from_nothing(plan: Plan, ctx: StepContext) -> None:
        assert not (ctx.folder / "half.txt").exists()
        write_result(plan, ctx)

    events = ritual.perform(train=from_nothing)
    assert [e.resumed for e in events if isinstance(e, StepStarted) and e.stage == "train"] == [False]
    assert not (ritual.run.path / "previous" / "train").exists()


def test_the_finished_result_survives_any_number_of_failed_attempts_with_other_settings(ritual: Ritual) -> None:
    ritual.perform()
    kept = ritual.run.path / "previous" / "train" / "result.txt"
    for steps in (90, 91, 92):
        ritual.change(train__steps=steps)
        ritual.perform(train=write_half_and_fail)
        assert kept.read_text(encoding="utf-8") == "train after 80 steps"


def test_undoing_a_change_brings_the_finished_result_back_without_work(ritual: Ritual) -> None:
    ritual.perform()
    ritual.change(train__steps=90)
    ritual.perform(train=write_half_and_fail)
    ritual.change(train__steps=80)
    assert ran(ritual.perform()) == []
    assert ritual.text("train") == "train after 80 steps"
    assert not (ritual.run.path / "previous" / "train").exists()


def test_a_result_outside_the_run_is_not_brought_back_once_overwritten(ritual: Ritual, tmp_path: Path) -> None:
    outside = tmp_path / "model.gguf"

    def write_outside(plan: Plan, ctx: StepContext) -> None:
        outside.write_text(f"{plan.export.types}"[:6], encoding="utf-8")
        ctx.artifact(outside)

    def overwrite_and_fail(plan: Plan, ctx: StepContext) -> None:
        outside.write_text("others", encoding="utf-8")
        raise UserError("It went wrong.")

    ritual.perform(export=write_outside)
    ritual.change(export__types=("f16",))
    ritual.perform(export=overwrite_and_fail)
    ritual.change(export__types=("f16", "q4_k_m"))
    assert ran(ritual.perform(export=write_outside)) == ["export"]
    assert outside.read_text(encoding="utf-8") == "('f16'"


def test_running_again_redoes_a_fresh_step_and_keeps_the_result_if_that_fails(ritual: Ritual) -> None:
    ritual.perform()
    assert ran(ritual.perform(again=True, only="train")) == ["train"]
    ritual.perform(again=True, only="train", train=write_half_and_fail)
    assert (ritual.run.path / "previous" / "train" / "result.txt").is_file()


def test_a_pause_that_comes_after_the_cancel_does_not_hold_the_step_for_ever() -> None:
    told: list[bool] = []
    token = CancelToken(on_pause=told.append)
    token.cancel()
    token.pause()
    with pytest.raises(Cancelled):
        token.check()
    assert told == []


def test_stopping_after_a_step_starts_no_other(ritual: Ritual) -> None:
    token = CancelToken()
    token.stop_after_step()
    heard: list[Event] = []
    steps = tuple(TinyStep(**vars(step)) for step in STEPS)
    assert isinstance(run_steps(ritual.run, steps, heard.append, token), StepFinished)
    assert ran(heard) == ["check"]


def test_what_the_search_found_is_in_the_plan_before_the_search_counts_as_done(ritual: Ritual) -> None:
    def search(plan: Plan, ctx: StepContext) -> None:
        write_json(ctx.folder / "best.json", {"changes": {"train.learning_rate": 0.001, "train.batch_size": 4}})

    ritual.change(search__enabled=True)
    marker = ritual.run.path / "search" / "done.json"
    steps = (TinyStep(**vars(BY_ID["search"]), work=search),)
    done_when_told: list[bool] = []

    def listen(event: Event) -> None:
        if isinstance(event, PlanChanged):
            done_when_told.append(marker.exists())
            assert event.old == {"train.learning_rate": 2.7e-4, "train.batch_size": 2}

    ritual.perform(only="check")
    ritual.perform(only="prepare")
    run_steps(ritual.run, steps, listen, CancelToken())
    assert done_when_told == [False]
    assert ritual.run.plan().train.learning_rate == 0.001
    assert ritual.states()["search"] == "done"  # its own settings do not include what it wrote


def test_the_schedule_search_wins_where_both_own_a_setting(ritual: Ritual) -> None:
    def search(plan: Plan, ctx: StepContext) -> None:
        write_json(ctx.folder / "best.json", {"changes": {"soul.schedule.warmup_fraction": 0.3, "train.batch_size": 4}})

    def schedule(plan: Plan, ctx: StepContext) -> None:
        write_json(ctx.folder / "best.json", {"changes": {"soul.schedule.warmup_fraction": 0.1}})

    ritual.change(search__enabled=True, schedule__enabled=True)
    events = ritual.perform(search=search, schedule=schedule)
    assert [e.new for e in events if isinstance(e, PlanChanged)] == [
        {"train.batch_size": 4},
        {"soul.schedule.warmup_fraction": 0.1},
    ]


def test_a_search_that_may_not_apply_leaves_the_plan_alone(ritual: Ritual) -> None:
    def search(plan: Plan, ctx: StepContext) -> None:
        write_json(ctx.folder / "best.json", {"changes": {"train.batch_size": 4}})

    ritual.change(search__enabled=True, search__apply=False)
    ritual.perform(search=search)
    assert ritual.run.plan().train.batch_size == 2


def test_commands_pick_steps() -> None:
    assert [step.id for step in selection(first="fuse", last="chat")] == ["fuse", "export", "chat"]
    assert [step.id for step in selection(only="train")] == ["train"]
    for wrong in ({"only": "dance"}, {"first": "dance"}, {"only": "train", "last": "fuse"}):
        with pytest.raises(UsageError):
            selection(**wrong)
    with pytest.raises(UsageError):
        selection(first="chat", last="fuse")
