"""What a search is worth, what it looks for, and how its trials get into the plan."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from rich.console import Console
from test_hyperparameter_search import heard, prepared_context, search_base, search_plan

from aegis_core import cli
from aegis_core import plan as plans
from aegis_core.cancel import CancelToken
from aegis_core.cli.painter import Painter
from aegis_core.context import StepContext
from aegis_core.events import Event, Log, PlanChanged, Progress, TrialFinished
from aegis_core.failures import UsageError, UserError
from aegis_core.freshness import BY_ID, State, states, why_stale
from aegis_core.pipeline import run_steps
from aegis_core.plan import Plan
from aegis_core.report.background import studies
from aegis_core.report.evidence import Evidence
from aegis_core.report.facts import studies as studies_of
from aegis_core.report.phrases import translator
from aegis_core.run_directory import RunDirectory, read_json, write_json
from aegis_core.sealed import read_sealed
from aegis_core.search.applying import allowed, apply_trial, trial_changes
from aegis_core.search.short_run import ShortRuns
from aegis_core.search.space import suggest, token_budget, trial_plan
from aegis_core.search.study import Tried
from aegis_core.steps import schedule as schedule_step
from aegis_core.steps import search as search_step

__all__ = ["prepared_context", "search_base"]


def losses(monkeypatch: pytest.MonkeyPatch, of: Any) -> list[Plan]:
    """Every short run comes to `of(plan)`; the plans it was asked for."""
    asked: list[Plan] = []

    def tried(self: ShortRuns, plan: Plan, *listeners: Any) -> Tried:
        asked.append(plan)
        return Tried(of(plan), notes=(("steps", plan.train.steps), ("tokens", 1024)))

    monkeypatch.setattr(ShortRuns, "tried", tried)
    return asked


def test_the_present_settings_are_measured_on_the_same_tokens(prepared_context: StepContext) -> None:
    ctx, events = heard(prepared_context)
    search_step.run(search_plan(search__compare=True), ctx)
    best, present = read_json(ctx.folder / "best.json"), read_sealed(ctx.folder / "present.json")
    assert best["present"] == present and present["tokens"] == best["tokens"] == 1024
    assert present["settings"]["train.learning_rate"] == Plan().train.learning_rate
    assert best["better_by"] == pytest.approx(present["value"] - best["value"])
    said = [event.text for event in events if isinstance(event, Log)]
    assert any("present settings came to" in text for text in said)


def test_present_settings_that_no_trial_beats_are_kept(
    prepared_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = losses(monkeypatch, lambda plan: 1.0 if plan.train.learning_rate == Plan().train.learning_rate else 2.0)
    ctx, events = heard(prepared_context)
    search_step.run(search_plan(search__compare=True), ctx)
    best = read_json(ctx.folder / "best.json")
    assert best["changes"] == {} and best["better_by"] == -1.0 and best["params"]
    assert any(e.level == "warning" and "no trial beat" in e.text for e in events if isinstance(e, Log))
    assert len(asked) == 5, "the comparison is one run beside the four trials"


def test_the_present_settings_are_measured_once_and_not_after_the_best_took_their_place(
    prepared_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = losses(monkeypatch, lambda plan: plan.train.learning_rate)
    search_step.run(search_plan(search__compare=True), prepared_context)
    first = read_sealed(prepared_context.folder / "present.json")
    search_step.run(
        search_plan(search__compare=True, search__n_trials=6, train__learning_rate=0.5), heard(prepared_context)[0]
    )
    assert read_sealed(prepared_context.folder / "present.json") == first and len(asked) == 7
    assert read_json(prepared_context.folder / "best.json")["present"] == first


def test_best_and_present_settings_are_repeated_on_other_seeds(
    prepared_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = losses(monkeypatch, lambda plan: plan.train.learning_rate + plan.train.seed / 1000)
    plan = search_plan(search__compare=True, search__repeats=3)
    search_step.run(plan, prepared_context)
    best = read_json(prepared_context.folder / "best.json")
    assert [row["seed"] for row in best["repeats"]] == [43, 44, 45]
    rate = best["params"]["learning_rate"]
    assert [row["best"] for row in best["repeats"]] == [pytest.approx(rate + seed / 1000) for seed in (43, 44, 45)]
    repeats = asked[5:]
    assert [p.train.seed for p in repeats] == [43, 43, 44, 44, 45, 45]
    spent = {p.train.steps * p.train.batch_size * p.data.sequence_length for p in repeats}
    assert spent == {1024}, "all on the same number of tokens"
    search_step.run(plan, heard(prepared_context)[0])
    assert len(asked) == 11, "what was repeated once is not repeated again"


def test_rank_dropout_and_rotation_are_searched_only_where_the_plan_asks_for_them() -> None:
    def drawn(**changes: Any) -> dict[str, Any]:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
        return suggest(study.ask(), search_plan(**changes).search)

    always = {"learning_rate", "batch_size", "warmup_steps", "alpha_warmup"}
    assert drawn().keys() == always
    point = drawn(search__ranks=[4, 8], search__dropout_high=0.2, search__rotation_high=1e-3)
    assert point.keys() == always | {"rank", "dropout", "rotation_learning_rate"}
    assert point["rank"] in (4, 8) and 0 <= point["dropout"] <= 0.2 and 1e-5 <= point["rotation_learning_rate"] <= 1e-3
    tried = trial_plan(search_plan(), point, 1024)
    assert (tried.lora.rank, tried.lora.dropout) == (point["rank"], point["dropout"])
    assert tried.soul.rotation_learning_rate == point["rotation_learning_rate"]


@pytest.mark.parametrize(
    "changes",
    [
        {"search.learning_rate_low": 0.1, "search.learning_rate_high": 0.01},
        {"search.alpha_warmup_low": 0.5, "search.alpha_warmup_high": 0.4},
        {"search.dropout_low": 0.3, "search.dropout_high": 0.2},
        {"search.rotation_low": 1e-3, "search.rotation_high": 1e-4},
    ],
)
def test_a_range_upside_down_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="lies above"):
        plans.changed(Plan(), changes)


def test_a_token_budget_spends_alike_for_every_batch_size() -> None:
    budget = token_budget(search_plan(), 1100, (1, 2, 4))
    assert budget == 1024
    for size in (1, 2, 4):
        assert trial_plan(search_plan(), {"batch_size": size}, budget).train.steps * size * 32 == budget


@pytest.mark.parametrize("pruner", ["median", "successive_halving", "off"])
def test_every_pruner_ends_a_study(prepared_context: StepContext, monkeypatch: pytest.MonkeyPatch, pruner: str) -> None:
    def tried(self: ShortRuns, plan: Plan, on_part: Any, on_glance: Any) -> Tried:
        for percent in (25, 50, 75):
            on_glance(percent, plan.train.learning_rate)
        return Tried(plan.train.learning_rate, notes=(("steps", 1), ("tokens", 1)))

    monkeypatch.setattr(ShortRuns, "tried", tried)
    search_step.run(search_plan(search__n_trials=12, search__pruner=pruner), prepared_context)
    states_ = [row["state"] for row in read_json(prepared_context.folder / "trials.json")]
    assert len(states_) == 12 and ("PRUNED" in states_) == (pruner != "off")


KILLED = """
import sys, time
from pathlib import Path
from test_hyperparameter_search import search_plan
from aegis_core.cancel import CancelToken
from aegis_core.cli.painter import Painter
from aegis_core.context import StepContext
from aegis_core.run_directory import RunDirectory
from aegis_core.search.short_run import ShortRuns
from aegis_core.steps import search
whole, calls = ShortRuns.tried, iter(range(100))
def tried(self, plan, on_part, on_glance):
    def in_the_middle(part):
        on_part(part)
        if number == 3 and part > 0.4:
            print("in trial 4", flush=True)
            time.sleep(600)
    number = next(calls)
    return whole(self, plan, in_the_middle, on_glance)
ShortRuns.tried = tried
ctx = StepContext(RunDirectory(Path(sys.argv[1])), "search", lambda event: None, CancelToken())
search.run(search_plan(search__n_trials=6), ctx)
"""


def test_a_search_killed_in_its_fourth_trial_ends_with_the_trials_of_the_uninterrupted_one(
    prepared_context: StepContext, tmp_path: Path
) -> None:
    killed, plan = RunDirectory(tmp_path / "cut off"), search_plan(search__n_trials=6)
    shutil.copytree(prepared_context.run.path, killed.path)
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(killed.path)],
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=Path(__file__).parent,
    )
    assert child.stdout and "in trial 4" in child.stdout.readline()
    child.kill()
    child.wait()
    search_step.run(plan, heard(prepared_context)[0])
    search_step.run(plan, StepContext(killed, "search", lambda event: None, CancelToken()))

    def trials(run: RunDirectory) -> list[dict[str, Any]]:
        rows = read_json(run.step_folder("search") / "trials.json")
        return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]

    assert trials(killed) == trials(prepared_context.run)
    assert len(trials(killed)) == 6


# freshness and the plan


def finish(run: RunDirectory, *ids: str) -> list[Event]:
    events: list[Event] = []
    assert run_steps(run, tuple(BY_ID[name] for name in ids), events.append, CancelToken()) is not None
    return events


def test_more_trials_or_another_wish_add_to_a_finished_search(
    prepared_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses(monkeypatch, lambda plan: plan.train.learning_rate)
    run = prepared_context.run
    run.write_plan(search_plan(search__enabled=True, search__apply=True))
    run.write_done("prepare", {}, {}, [], 0.0, {})
    monkeypatch.setattr("aegis_core.freshness.misfits", lambda *a: [])
    finish(run, "search")
    first = read_json(run.step_folder("search") / "trials.json")
    assert run.plan().train.learning_rate == min(row["params"]["learning_rate"] for row in first)
    run.write_plan(plans.changed(run.plan(), {"search.n_trials": 7}))
    assert why_stale(run, run.plan(), BY_ID["search"]) == ["search.n_trials"]
    events = finish(run, "search")
    rows = read_json(run.step_folder("search") / "trials.json")
    assert rows[:4] == first and len(rows) == 7, "the four there were are still there"
    assert [event.number for event in events if isinstance(event, TrialFinished)] == [4, 5, 6]
    assert Progress(4, 7, "trials") in [Progress(e.done, e.total, e.unit) for e in events if isinstance(e, Progress)]


def test_a_searched_rank_does_not_make_the_search_stale_but_a_fixed_one_does() -> None:
    step = BY_ID["search"]
    from aegis_core.freshness import settings_of

    assert "lora.rank" in settings_of(search_plan(), step)
    assert "lora.rank" not in settings_of(search_plan(search__ranks=[4, 8]), step)
    assert "lora.alpha" in settings_of(search_plan(search__ranks=[4, 8]), step)


def trials_of(run: RunDirectory, step: str, *rows: dict[str, Any]) -> None:
    full = [{"number": n, "state": "COMPLETE", "value": 1.0, "reason": ""} | row for n, row in enumerate(rows)]
    run.step_folder(step).mkdir(exist_ok=True)
    write_json(run.step_folder(step) / "trials.json", full)


POINT = {"learning_rate": 1e-3, "batch_size": 4, "warmup_steps": 3, "alpha_warmup": 0.25}


def test_any_complete_trial_can_be_applied_in_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDirectory.create(tmp_path / "ri tual 日本語", Plan())
    trials_of(run, "search", {"params": POINT | {"batch_size": 1}}, {"params": POINT})
    assert cli.main(["apply", str(run.path), "search", "2"]) == 0
    assert run.plan().train.batch_size == 4 and run.plan().train.learning_rate == 1e-3
    assert "train.learning_rate: 0.00027 -> 0.001" in capsys.readouterr().out
    assert cli.main(["apply", str(run.path), "search", "9"]) == 1
    assert "no finished trial 9" in capsys.readouterr().err
    assert cli.main(["apply", str(run.path), "train", "1"]) == 2


@pytest.mark.parametrize(
    ("step", "row", "problem"),
    [
        ("search", {"state": "FAIL", "reason": "The loss is not finite.", "params": POINT}, "not finite"),
        ("search", {"state": "PRUNED", "params": POINT}, "pruned"),
        ("schedule", {"converged": False, "params": {"kind": "linear"}}, "does not converge"),
    ],
)
def test_a_trial_without_a_result_cannot_be_applied(tmp_path: Path, step: str, row: dict, problem: str) -> None:
    run = RunDirectory.create(tmp_path / "run", Plan())
    trials_of(run, step, row)
    before = run.plan()
    with pytest.raises(UserError, match=re.escape(problem)):
        apply_trial(run, BY_ID[step], 1)
    assert run.plan() == before


def test_what_the_schedule_search_finds_wins_over_a_trial_of_the_other(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", plans.changed(Plan(), {"schedule.enabled": True}))
    trials_of(run, "search", {"params": POINT})
    assert "soul.schedule.warmup_fraction" not in trial_changes(run, BY_ID["search"], 1)
    off = plans.changed(run.plan(), {"schedule.enabled": False})
    assert "soul.schedule.warmup_fraction" in allowed(off, BY_ID["search"], {"soul.schedule.warmup_fraction": 0.1})


# the schedules that are tried in training


def schedule_plan(**changes: Any) -> Plan:
    settings = {"schedule__n_trials": 20, "schedule__try_best": 3, "schedule__tokens_per_trial": 1024}
    return search_plan(train__steps=100, **(settings | changes))


def schedule_context(context: StepContext) -> tuple[StepContext, list[Event]]:
    events: list[Event] = []
    return StepContext(context.run, "schedule", events.append, CancelToken()), events


def test_the_best_schedules_are_trained_with_and_the_held_out_loss_decides(
    prepared_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = losses(monkeypatch, lambda plan: -(plan.soul.schedule.end_fraction % 1))
    ctx, events = schedule_context(prepared_context)
    schedule_step.run(schedule_plan(), ctx)
    rows, best = read_json(ctx.folder / "trials.json"), read_json(ctx.folder / "best.json")
    by_score = sorted((row for row in rows if row["converged"]), key=lambda row: -row["value"])[:3]
    assert [row["number"] for row in best["tried"]] == [*(row["number"] for row in by_score), None]
    latest = max(by_score, key=lambda row: row["params"]["end_fraction"])
    assert best["number"] == latest["number"] and best["params"] == latest["params"] and best["changes"]
    assert {p.train.steps * p.train.batch_size * 32 for p in asked} == {1024} and len(asked) == 3 + 1
    assert sum("held-out loss" in e.text for e in events if isinstance(e, Log)) == 3 + 1, "and the present schedule's"
    schedule_step.run(schedule_plan(schedule__try_best=4), schedule_context(prepared_context)[0])
    assert len(asked) == 5, "what was trained with already is not trained with again"


def test_a_present_schedule_that_trains_to_a_lower_loss_is_kept(
    prepared_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses(monkeypatch, lambda plan: -plan.soul.schedule.end_fraction)
    ctx, events = schedule_context(prepared_context)
    schedule_step.run(schedule_plan(), ctx)
    best = read_json(ctx.folder / "best.json")
    assert best["changes"] == {} and best["tried"][-1]["loss"] == -1.0
    assert best["value"] > best["present"]["value"], "though its score is lower"
    assert any("it stays" in e.text for e in events if isinstance(e, Log))


def test_a_real_short_run_of_a_schedule_has_a_loss(prepared_context: StepContext) -> None:
    ctx, _ = schedule_context(prepared_context)
    schedule_step.run(schedule_plan(schedule__try_best=1), ctx)
    tried = read_json(ctx.folder / "best.json")["tried"]
    assert len(tried) == 2 and all(0 < row["loss"] < 10 and row["tokens"] == 1024 for row in tried)
    assert tried[0]["loss"] != tried[1]["loss"], "the schedules differ"


def test_schedules_to_be_tried_need_the_prepared_data(prepared_context: StepContext) -> None:
    run = prepared_context.run
    run.write_plan(schedule_plan(schedule__enabled=True))
    assert states(run, run.plan())["schedule"] is State.WAITING
    run.write_plan(schedule_plan(schedule__enabled=True, schedule__try_best=0))
    assert states(run, run.plan())["schedule"] is State.READY
    assert json.dumps(read_json(run.plan_path))


# the run log


def study_row(**best: Any) -> dict[str, Any]:
    row = {"changes": {}, "number": 2, "params": {}, "value": 3.2, "tokens": 1024} | best
    study = {"sampler": "TPE", "seed": 0, "space": {"batch_sizes": [1, 2]}, "shared_in": "", "states": {"COMPLETE": 3},
             "best": row, "trials": []}  # fmt: skip
    return {"studies": {"search": study, "schedule": None}, "plan": Plan().model_dump(mode="json")}


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_run_log_says_what_the_search_is_worth(language: str) -> None:
    t = translator(language)

    def told(**best: Any) -> str:
        return str(studies(study_row(**best), t).blocks)

    better = told(present={"value": 3.5, "reason": ""}, better_by=0.3)
    assert "+0.3000" in better and "3.5" in better and "1,024" in better and "batch_sizes = 1, 2" in better
    kept = told(present={"value": 3.1, "reason": ""}, better_by=-0.1)
    assert "-0.1000" in kept and ("kept" if language == "en" else "そのまま") in kept
    failed = told(present={"value": None, "reason": "no memory"}, better_by=None)
    assert "no memory" in failed
    repeats = told(repeats=[{"seed": 43, "trial": 2, "best": 3.21, "present": None}])
    assert "43" in repeats and "3.21" in repeats and "–" in repeats
    assert "on average" not in repeats and "平均" not in repeats, "of one difference there is no spread"
    several = told(repeats=[{"seed": 43 + i, "trial": 2, "best": 3.2 + 0.01 * i, "present": 3.3} for i in range(3)])
    assert "-0.0900 ± 0.0058" in several


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_run_log_says_how_schedules_were_searched_and_what_the_best_is_worth(tmp_path: Path, language: str) -> None:
    run = RunDirectory.create(tmp_path / "run", plans.changed(Plan(), {"schedule.enabled": True}))
    ctx = StepContext(run, "schedule", lambda event: None, CancelToken())
    schedule_step.run(plans.changed(run.plan(), {"train.steps": 100, "schedule.n_trials": 12}), ctx)
    study = studies_of(Evidence(run), run.plan())["schedule"]
    best = read_json(ctx.folder / "best.json")
    plan = Plan().model_dump(mode="json")
    told = str(studies({"studies": {"search": None, "schedule": study}, "plan": plan}, translator(language)).blocks)
    for part in ("0…0.4", "0.5…1", "0…0.3", "2…40", "two_phase", f"{best['present']['value']:.4f}", "12"):
        assert part in told, part
    assert study["best"]["n_random"] == 4 and " 4 " in told
    row = best | {"tried": [{"number": None, "score": 1.3, "loss": 3.2}, {"number": 4, "score": 1.5, "loss": 3.1}]}
    told = str(studies({"studies": {"schedule": study | {"best": row}}, "plan": plan}, translator(language)).blocks)
    assert "3.2" in told and ("before the search" if language == "en" else "探索前") in told


def test_the_terminal_counts_trials_as_apply_does_and_says_what_was_changed() -> None:
    console = Console(file=io.StringIO(), width=200)
    painter = Painter(console)
    for event in (
        TrialFinished(2, "COMPLETE", 3.25, POINT),
        TrialFinished(3, "FAIL", None, POINT, reason="The memory was not enough for this trial."),
        PlanChanged({"train.batch_size": 2, "lora.rank": 16}, {"train.batch_size": 4, "lora.rank": 16}, "search"),
    ):
        painter(event)
    said = console.file.getvalue()
    assert "trial 3: COMPLETE 3.25" in said and "trial 4: FAIL, The memory was not enough" in said
    assert "train.batch_size 2 -> 4; written into the plan" in said and "rank" not in said
