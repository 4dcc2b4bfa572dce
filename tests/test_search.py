"""The studies: what a score means, and what a kill or a failing trial does to a study."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import optuna
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aegis_core import plan as plans
from aegis_core.cancel import Cancelled, CancelToken
from aegis_core.context import StepContext
from aegis_core.events import Event, Log, Metric, TrialFinished
from aegis_core.failures import UserError
from aegis_core.plan import GOLDEN_RATIO, AnnealingPlan, Plan
from aegis_core.run_directory import RunDirectory, read_json
from aegis_core.search.sampler import n_startup_trials
from aegis_core.search.schedule_space import KINDS, RANGES, STEEP_KINDS, suggest
from aegis_core.search.score import score
from aegis_core.search.study import StudyPlan, TrialFailed, Tried, Voice, best_of, refuse_without_best, run_study
from aegis_core.soul import schedule
from aegis_core.steps import schedule as schedule_step

N = 100
START = -5.0


def schedule_alphas(**settings: Any) -> list[float]:
    soul = plans.changed(Plan(), {f"soul.schedule.{name}": value for name, value in settings.items()}).soul
    return schedule.curve(N, soul)


@pytest.fixture
def search_context(tmp_path: Path) -> StepContext:
    run = RunDirectory.create(tmp_path / "探索 {50%} run", Plan())
    return new_context(run)


def new_context(run: RunDirectory, events: list[Event] | None = None) -> StepContext:
    return StepContext(run, "schedule", (events if events is not None else []).append, CancelToken())


def plan_with(**changes: Any) -> Plan:
    return plans.changed(Plan(), {name.replace("__", "."): value for name, value in changes.items()})


# the score


def test_default_schedule_converges_and_scores_by_the_formula() -> None:
    alphas = schedule_alphas()
    result = score(alphas, GOLDEN_RATIO, 0.5)
    settled = next(i for i in range(N) if abs(alphas[i] - GOLDEN_RATIO) < 0.01)
    stride = max(b - a for a, b in pairwise(alphas)) * N / (8 * (GOLDEN_RATIO - START))
    assert result.converged and result.settled_at == settled
    assert result.value == pytest.approx(1 + 0.5 * (1 - settled / N) + 0.5 * (1 - stride))


def test_the_weight_decides_between_early_and_smooth() -> None:
    steep, gentle = (
        schedule_alphas(steepness=30.0, end_fraction=0.98),
        schedule_alphas(kind="linear", end_fraction=0.98),
    )
    assert score(steep, GOLDEN_RATIO, 0.0).value > score(gentle, GOLDEN_RATIO, 0.0).value
    assert score(gentle, GOLDEN_RATIO, 1.0).value > score(steep, GOLDEN_RATIO, 1.0).value


def test_the_curve_that_once_won_without_converging_loses_now() -> None:
    """0.9898 was given to a curve that stopped at |α − φ| ≈ 0.0102, while converged ones got 0.5."""
    near_miss = [START + (GOLDEN_RATIO - 0.0102 - START) * i / (N - 1) for i in range(N)]
    poorest = [START + (GOLDEN_RATIO - START) * min(i / 98, 1) for i in range(N)]
    assert score(near_miss, GOLDEN_RATIO, 0.5).value == pytest.approx(-abs(near_miss[98] - GOLDEN_RATIO))
    assert score(poorest, GOLDEN_RATIO, 0.5).value >= 1 > 0 > score(near_miss, GOLDEN_RATIO, 0.5).value


def test_arriving_only_in_the_last_step_is_not_converged() -> None:
    late = [START] * (N - 1) + [GOLDEN_RATIO]
    assert not score(late, GOLDEN_RATIO, 0.5).converged


def test_leaving_the_target_again_is_not_converged() -> None:
    alphas = schedule_alphas(end_fraction=0.5)
    alphas[-1] = GOLDEN_RATIO - 0.02
    assert not score(alphas, GOLDEN_RATIO, 0.5).converged


def test_a_jump_is_below_zero_even_on_the_target() -> None:
    jump = [START] * 10 + [GOLDEN_RATIO] * (N - 10)
    result = score(jump, GOLDEN_RATIO, 0.0)
    assert not result.converged and result.value < 0 and result.stride == pytest.approx(N / 8)


@pytest.mark.parametrize("alphas", [[], [START], [START, math.nan], [GOLDEN_RATIO, GOLDEN_RATIO]])
def test_curves_without_meaning_have_no_score(alphas: list[float]) -> None:
    with pytest.raises(ValueError):
        score(alphas, GOLDEN_RATIO, 0.5)


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    steepness=st.floats(0.01, 60),
    warmup=st.floats(0, 0.9),
    end=st.floats(0.01, 1),
    weight=st.floats(0, 1),
    cut=st.floats(0, 1.2),
)
def test_every_converged_curve_ranks_above_every_other(
    kind: str, steepness: float, warmup: float, end: float, weight: float, cut: float
) -> None:
    assume(warmup < end)
    whole = schedule_alphas(kind=kind, steepness=steepness, warmup_fraction=warmup, end_fraction=end)
    for alphas in (whole, [START + (alpha - START) * cut for alpha in whole]):
        if len(set(alphas)) == 1:
            continue
        result = score(alphas, GOLDEN_RATIO, weight)
        really = all(abs(a - GOLDEN_RATIO) < 0.01 for a in alphas[98:]) and result.stride <= 1
        assert result.converged == really
        assert (1 <= result.value <= 2) if really else result.value <= 0


# a study


def quadratic(name: str = "q", n_trials: int = 6, fail: tuple[int, ...] = (), stop_at: int | None = None) -> StudyPlan:
    calls = iter(range(1000))

    def suggest(trial: optuna.Trial) -> dict[str, Any]:
        return {"x": trial.suggest_float("x", -10, 10), "y": trial.suggest_int("y", 0, 5)}

    def objective(trial: optuna.Trial, params: dict[str, Any], voice: Voice) -> Tried:
        call = next(calls)
        if call == stop_at:
            raise Cancelled
        if call in fail:
            raise TrialFailed("loss is not finite")
        return Tried(params["x"] ** 2 + params["y"])

    return StudyPlan(name, "minimize", 3, n_trials, True, suggest, objective, optuna.pruners.NopPruner())


def test_a_study_cut_off_ends_as_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = run_study(quadratic(), new_context(RunDirectory.create(tmp_path / "whole", Plan())))
    run = RunDirectory.create(tmp_path / "cut", Plan())
    with pytest.raises(Cancelled):
        run_study(quadratic(stop_at=3), new_context(run))
    events: list[Event] = []
    continued = run_study(quadratic(), new_context(run, events))
    assert [t.trial.params for t in continued] == [t.trial.params for t in whole]
    assert [t.trial.value for t in continued] == [t.trial.value for t in whole]
    assert [e.number for e in events if isinstance(e, TrialFinished)] == [3, 4, 5]
    with_marks = optuna.load_study(study_name="q", storage=f"sqlite:///{run.path.as_posix()}/schedule/study.db").trials
    assert [t.state.name for t in with_marks].count("FAIL") == 1 and len(with_marks) == 7


KILLED = """
import sys, time
from pathlib import Path
import test_search
from aegis_core.run_directory import RunDirectory
plan = test_search.quadratic()
inner = plan.objective
def objective(trial, params, voice):
    if trial.number == 3:
        print("in trial 4", flush=True)
        time.sleep(600)
    return inner(trial, params, voice)
test_search.run_study(
    test_search.StudyPlan(**{**vars(plan), "objective": objective}),
    test_search.new_context(RunDirectory(Path(sys.argv[1]))),
)
"""


def test_a_killed_study_loses_no_trial_and_repeats_no_draw(tmp_path: Path) -> None:
    whole = run_study(quadratic(), new_context(RunDirectory.create(tmp_path / "whole", Plan())))
    run = RunDirectory.create(tmp_path / "ri tual 日本語", Plan())
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(run.path)],
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment,
        cwd=Path(__file__).parent,
    )
    assert child.stdout and "in trial 4" in child.stdout.readline()
    child.kill()
    assert child.wait() == (-signal.SIGKILL if os.name == "posix" else 1)
    continued = run_study(quadratic(), new_context(run))
    assert [t.trial.params for t in continued] == [t.trial.params for t in whole]
    assert {t.trial.state.name for t in continued} == {"COMPLETE"} and len(continued) == 6


def test_failed_trials_have_a_reason_and_no_score(search_context: StepContext) -> None:
    trials = run_study(quadratic(fail=(0, 2)), search_context)
    rows = read_json(search_context.folder / "trials.json")
    assert [row["state"] for row in rows].count("FAIL") == 2
    assert rows[0] == rows[0] | {"value": None, "reason": "loss is not finite"}
    best = best_of(trials, "minimize")
    assert best is not None and best.trial.value == min(t.trial.value for t in trials if t.trial.value is not None)


def test_a_study_of_failures_has_no_best(search_context: StepContext) -> None:
    trials = run_study(quadratic(n_trials=2, fail=(0, 1)), search_context)
    with pytest.raises(UserError, match=r"None of the 2 trials succeeded.*loss is not finite"):
        refuse_without_best(best_of(trials, "minimize"), trials)


@pytest.mark.parametrize(("n_trials", "n_random"), [(1, 2), (6, 2), (9, 3), (30, 10), (1000, 10)])
def test_few_trials_are_random_so_that_a_short_study_learns(n_trials: int, n_random: int) -> None:
    assert n_startup_trials(n_trials) == n_random


def test_after_the_random_trials_the_draws_follow_what_was_measured(tmp_path: Path) -> None:
    """The same seed, the values upside down: the two random trials are the same, those after them are not."""
    plan = quadratic()

    def opposite(trial: optuna.Trial, params: dict[str, Any], voice: Voice) -> Tried:
        return Tried(-plan.objective(trial, params, voice).value)

    found = []
    for name, objective in (("one", plan.objective), ("two", opposite)):
        run = RunDirectory.create(tmp_path / name, Plan())
        other = StudyPlan(**{**vars(plan), "objective": objective})
        found.append([placed.trial.params for placed in run_study(other, new_context(run))])
    assert found[0][:2] == found[1][:2]
    assert all(one != two for one, two in zip(found[0][2:], found[1][2:], strict=True))


def test_a_study_can_be_opened_by_optuna_itself(tmp_path: Path) -> None:
    ctx = new_context(RunDirectory.create(tmp_path / "run", Plan()))
    run_study(quadratic(), ctx)
    place = f"sqlite:///{(ctx.folder / 'study.db').as_posix()}"
    assert optuna.study.get_all_study_names(place) == ["q"]
    study = optuna.load_study(study_name="q", storage=place)
    assert len(study.trials) == 6 and study.best_value == min(trial.value for trial in study.trials)


def test_other_seeds_try_other_settings(tmp_path: Path) -> None:
    found = []
    for seed in (0, 1):
        plan = StudyPlan(**{**vars(quadratic()), "seed": seed})
        found.append(run_study(plan, new_context(RunDirectory.create(tmp_path / str(seed), Plan())))[0].trial.params)
    assert found[0] != found[1]


# the schedule step


def test_schedule_search_finds_a_converged_schedule(search_context: StepContext) -> None:
    plan = plan_with(train__steps=N, schedule__n_trials=25, schedule__enabled=True)
    events: list[Event] = []
    schedule_step.run(plan, new_context(search_context.run, events))
    best = read_json(search_context.folder / "best.json")
    applied = plans.changed(plan, best["changes"])
    alphas = schedule.curve(N, applied.soul)
    assert all(abs(alpha - GOLDEN_RATIO) < 0.01 for alpha in alphas[90:]), "well before the end"
    finished = [event for event in events if isinstance(event, TrialFinished)]
    assert len(finished) == 25 and finished[-1].best_value == best["value"]
    assert all(len(event.curve) == N for event in finished)
    rows = read_json(search_context.folder / "trials.json")
    worst_converged = min(row["value"] for row in rows if row["converged"])
    unconverged = [row["value"] for row in rows if not row["converged"]]
    assert unconverged and max(unconverged) < worst_converged


def test_every_kind_and_every_setting_of_a_schedule_is_searched() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = [suggest(study.ask()) for _ in range(200)]
    assert (
        {point["kind"] for point in points}
        == set(KINDS)
        == set(get_args(AnnealingPlan.model_fields["kind"].annotation))
    )
    assert RANGES.keys() | {"kind"} == AnnealingPlan.model_fields.keys()
    for name, (low, high) in RANGES.items():
        values = [point[name] for point in points if name in point]
        assert low <= min(values) < low + 0.1 * (high - low) and high - 0.1 * (high - low) < max(values) <= high
    assert all(("steepness" in point) == (point["kind"] in STEEP_KINDS) for point in points)


def test_the_schedule_before_the_search_is_scored_and_kept_where_none_is_better(
    search_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {"soul.schedule.kind": "linear", "soul.schedule.end_fraction": 0.5}
    plan = plans.changed(plan_with(train__steps=N, schedule__n_trials=3), good)
    monkeypatch.setattr(schedule_step, "suggest", lambda trial: {"kind": trial.suggest_categorical("kind", ["linear"]),
                        "end_fraction": trial.suggest_float("end_fraction", 0.9, 0.95)})  # fmt: skip
    events: list[Event] = []
    schedule_step.run(plan, new_context(search_context.run, events))
    best = read_json(search_context.folder / "best.json")
    assert best["changes"] == {} and 1 < best["value"] < best["present"]["value"]
    assert best["present"]["settings"]["soul.schedule.end_fraction"] == 0.5
    assert [e.value for e in events if isinstance(e, Metric)] == [best["present"]["value"]]
    assert any(e.level == "warning" and "it stays" in e.text for e in events if isinstance(e, Log))
    poor = plans.changed(plan, {"soul.schedule.end_fraction": 0.99})
    other = RunDirectory.create(search_context.run.path.parent / "other", Plan())
    schedule_step.run(poor, new_context(other))
    found = read_json(other.step_folder("schedule") / "best.json")
    assert found["changes"]["soul.schedule.end_fraction"] < 0.99 and found["value"] > found["present"]["value"]
    longer = plans.changed(poor, found["changes"] | {"schedule.n_trials": 4})
    schedule_step.run(longer, new_context(other))
    again = read_json(other.step_folder("schedule") / "best.json")
    assert again["present"] == found["present"], "what there was before, not what was found meanwhile"


def test_schedule_search_refuses_a_best_that_does_not_converge(
    search_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_jumps(trial: optuna.Trial) -> dict[str, Any]:
        return {
            "kind": trial.suggest_categorical("kind", ["sigmoid"]),
            "steepness": trial.suggest_float("steepness", 50, 60),
        }

    monkeypatch.setattr(schedule_step, "suggest", only_jumps)
    with pytest.raises(UserError, match="None of the 3 schedules"):
        schedule_step.run(plan_with(train__steps=N, schedule__n_trials=3), search_context)
    assert not (search_context.folder / "best.json").exists()


def test_schedule_search_without_a_way_to_go_is_refused(search_context: StepContext) -> None:
    with pytest.raises(UserError, match="no schedule to search"):
        schedule_step.run(plan_with(soul__alpha_start=GOLDEN_RATIO), search_context)


def test_long_curves_are_thinned_in_events(search_context: StepContext) -> None:
    events: list[Event] = []
    schedule_step.run(plan_with(train__steps=5000, schedule__n_trials=2), new_context(search_context.run, events))
    curve = next(event.curve for event in events if isinstance(event, TrialFinished))
    assert len(curve) == 200 and curve[0] == START and curve[-1] == GOLDEN_RATIO
    assert json.dumps(curve)
