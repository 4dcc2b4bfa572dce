"""Several workers on one study: joining, dying, being given up; and where a study may be kept."""

import math
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from test_search import new_context

from aegis_core.cancel import Cancelled
from aegis_core.events import Event, Log, Progress, TrialFinished
from aegis_core.failures import UserError
from aegis_core.plan import Plan
from aegis_core.run_directory import RunDirectory, read_json
from aegis_core.search import workers
from aegis_core.search.ledger import ABANDONED, REPEATS, Ledger
from aegis_core.search.storage import opened_storage
from aegis_core.search.study import Placed, StudyPlan, Tried, Voice, expected_trials, run_study

N_TRIALS = 8
WORKER = """
import sys, time
from pathlib import Path
import test_search_workers as own
from aegis_core.run_directory import RunDirectory
own.run_study(
    own.shared(sys.argv[2], slow=float(sys.argv[3]), hang_at=int(sys.argv[4])),
    own.new_context(RunDirectory(Path(sys.argv[1]))),
)
print("finished", flush=True)
"""


def shared(place: str, slow: float = 0.0, hang_at: int = -1, **changes: Any) -> StudyPlan:
    """A study whose objective says which trial it is in; it hangs in its `hang_at`-th."""
    calls = iter(range(1000))

    def suggest(trial: optuna.Trial) -> dict[str, Any]:
        return {"x": trial.suggest_float("x", -10, 10)}

    def objective(trial: optuna.Trial, params: dict[str, Any], voice: Voice) -> Tried:
        print(f"trial {trial.number}", flush=True)
        time.sleep(600 if next(calls) == hang_at else slow)
        return Tried(params["x"] ** 2)

    settings = {"n_trials": N_TRIALS, "place": place} | changes
    return StudyPlan("shared", "minimize", 3, joint=True, suggest=suggest, objective=objective,
                     pruner=optuna.pruners.NopPruner(), **settings)  # fmt: skip


def start(run: RunDirectory, place: str, slow: float = 0.0, hang_at: int = -1) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WORKER), str(run.path), place, str(slow), str(hang_at)],
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=Path(__file__).parent,
    )


def new_run(folder: Path, name: str) -> RunDirectory:
    return RunDirectory.create(folder / name, Plan())


@pytest.fixture(params=["journal", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    folder = tmp_path / "共有 folder"
    folder.mkdir()
    if request.param == "journal":
        return str(folder / "study.journal")
    return f"sqlite:///{(folder / 'study.db').as_posix()}"


def test_two_workers_share_a_study_and_the_death_of_one_loses_no_trial(tmp_path: Path, place: str) -> None:
    doomed = start(new_run(tmp_path, "one"), place, hang_at=2)
    assert doomed.stdout
    seen = [doomed.stdout.readline() for _ in range(3)]
    assert seen[-1].startswith("trial"), seen
    helper = start(new_run(tmp_path, "two"), place, slow=0.05)
    assert helper.stdout and helper.stdout.readline().startswith("trial"), "it joins while the other is at work"
    doomed.kill()
    doomed.wait()
    said, _ = helper.communicate(timeout=120)
    assert said.endswith("finished\n")
    rows = read_json(tmp_path / "two" / "schedule" / "trials.json")
    assert [row["number"] for row in rows] == list(range(N_TRIALS))
    assert {row["state"] for row in rows} == {"COMPLETE"}
    assert len({row["params"]["x"] for row in rows}) == N_TRIALS, "no draw was made twice"
    events: list[Event] = []
    ended = run_study(shared(place), new_context(new_run(tmp_path, "three"), events))
    assert [placed.trial.params for placed in ended] == [row["params"] for row in rows]
    assert [e.number for e in events if isinstance(e, TrialFinished)] == list(range(N_TRIALS)), "a joiner sees them all"


def test_a_worker_waits_for_the_last_trial_of_another_and_counts_it(tmp_path: Path, place: str) -> None:
    other = start(new_run(tmp_path, "one"), place, slow=1.0)
    assert other.stdout and other.stdout.readline().startswith("trial")
    ended = run_study(shared(place), new_context(new_run(tmp_path, "two")))
    assert len(ended) == N_TRIALS and {placed.trial.state for placed in ended} == {TrialState.COMPLETE}
    assert other.communicate(timeout=60)[0].endswith("finished\n")
    one, two = (read_json(tmp_path / name / "schedule" / "trials.json") for name in ("one", "two"))
    assert one == two, "both runs end with the same study"


def test_a_worker_that_is_stopped_gives_its_trial_back_at_once(tmp_path: Path, place: str) -> None:
    plan = shared(place)

    def stopping(trial: optuna.Trial, params: dict[str, Any], voice: Voice) -> Tried:
        raise Cancelled

    with pytest.raises(Cancelled):
        run_study(StudyPlan(**{**vars(plan), "objective": stopping}), new_context(new_run(tmp_path, "one")))
    ended = run_study(plan, new_context(new_run(tmp_path, "two")))
    assert len(ended) == N_TRIALS
    with opened_storage(place, tmp_path / "unused.db") as storage:
        trials = optuna.load_study(study_name="shared", storage=storage).trials
    assert [REPEATS in trial.user_attrs for trial in trials].count(True) == 1 and len(trials) == N_TRIALS + 1


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with opened_storage("", tmp_path / "study.db") as storage:
        study = optuna.create_study(storage=storage, study_name="s")
        yield Ledger(study, storage, 4, shared=True)


def test_two_repeats_of_one_trial_count_once(ledger: Ledger) -> None:
    """Two workers find the same dead trial at the same moment: both repeat it, the earlier repeat counts."""
    trial, position = ledger.ask() or (None, None)
    assert trial and position == 0
    ledger.give_up(trial.number)
    for _ in range(2):
        ledger.study.enqueue_trial({}, user_attrs={REPEATS: trial.number})
    for value in (1.0, 2.0):
        repeat, position = ledger.ask() or (None, None)
        assert repeat and position == 0
        ledger.study.tell(repeat, value)
    found = ledger.ended()
    assert list(found) == [0] and found[0].value == 1.0
    ledger.repeat_abandoned()
    assert ledger.ask()[1] == 1, "the place is settled: the next trial is a new one"


def test_a_trial_beyond_the_planned_ones_is_given_back_and_taken_up_by_a_longer_plan(ledger: Ledger) -> None:
    for _ in range(4):
        trial, _ = ledger.ask()
        ledger.study.tell(trial, 1.0)
    assert ledger.is_all_taken() and ledger.ask() is None, "another worker was quicker"
    longer = Ledger(ledger.study, ledger._storage, 6, shared=True)
    longer.repeat_abandoned()
    assert not longer.is_all_taken()
    assert [longer.ask()[1] for _ in range(2)] == [4, 5]
    assert longer.is_all_taken() and longer.at_work() == 2


def test_a_trial_cut_off_before_all_was_drawn_is_drawn_again_and_not_fixed(ledger: Ledger) -> None:
    trial, _ = ledger.ask()
    trial.suggest_float("x", 0, 1)
    ledger.give_up(trial.number)
    ledger.repeat_abandoned()
    waiting = ledger.study.get_trials(states=(TrialState.WAITING,))
    assert [t.system_attrs["fixed_params"] for t in waiting] == [{}]


def test_a_trial_that_ended_as_it_was_given_up_keeps_its_result(ledger: Ledger) -> None:
    trial, _ = ledger.ask()
    ledger._storage.set_trial_user_attr(trial._trial_id, ABANDONED, True)
    ledger.study.tell(trial, 3.0)
    ledger.give_up(trial.number)
    ledger.repeat_abandoned()
    assert ledger.ended()[0].value == 3.0 and not ledger.study.get_trials(states=(TrialState.WAITING,))


def test_a_result_that_comes_after_the_trial_was_given_away_does_not_count(tmp_path: Path) -> None:
    place, events = str(tmp_path / "study.journal"), []
    plan = shared(place, n_trials=2)
    taken = []

    def stolen(trial: optuna.Trial, params: dict[str, Any], voice: Voice) -> Tried:
        if not taken:
            taken.append(trial.number)
            with opened_storage(place, tmp_path / "unused.db") as storage:
                study = optuna.load_study(study_name="shared", storage=storage)
                Ledger(study, storage, 2, shared=True).give_up(trial.number)
            return Tried(-1.0)
        return plan.objective(trial, params, voice)

    ended = run_study(StudyPlan(**{**vars(plan), "objective": stolen}), new_context(new_run(tmp_path, "run"), events))
    assert len(ended) == 2 and all(placed.trial.value >= 0 for placed in ended)
    assert any("taken over" in e.text for e in events if isinstance(e, Log))


def frozen(worker: str, pulse: int = 0) -> optuna.trial.FrozenTrial:
    attributes = {workers.WORKER: worker, workers.PULSE: pulse}
    return optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=attributes)


def test_a_process_of_this_machine_is_looked_up() -> None:
    watch, mine = workers.Watch(), workers.this_worker()
    assert watch.is_alive(frozen(mine))
    machine, number, began = mine.split("|")
    assert not watch.is_alive(frozen(f"{machine}|{number}|{float(began) - 5:.2f}")), "the number came again"
    assert not watch.is_alive(frozen(f"{machine}|999999999|1.00"))


def test_another_machine_is_believed_dead_only_after_two_silent_minutes_of_our_own_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr(workers.time, "monotonic", lambda: now[0])
    watch, there = workers.Watch(), "elsewhere|17|3.00"
    assert watch.is_alive(frozen(there, 1))
    now[0] += 119
    assert watch.is_alive(frozen(there, 1))
    now[0] += 2
    assert not watch.is_alive(frozen(there, 1))
    assert watch.is_alive(frozen(there, 2)), "a pulse, late as it is, is life"


def test_a_pulse_beats_while_the_trial_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PULSE_SECONDS", 0.02)
    beats: list[int] = []
    with workers.beating(beats.append):
        while len(beats) < 3:
            time.sleep(0.01)
    n = len(beats)
    time.sleep(0.1)
    assert beats == list(range(1, n + 1)) and len(beats) == n


def test_a_pulse_that_fails_is_told_when_the_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PULSE_SECONDS", 0.01)

    def beat(count: int) -> None:
        raise OSError("the shared folder is gone")

    with pytest.raises(OSError, match="the shared folder is gone"), workers.beating(beat):
        time.sleep(0.1)
    with pytest.raises(ValueError, match="its own"), workers.beating(beat):
        time.sleep(0.1)
        raise ValueError("its own")


def test_minutes_end_a_study_and_the_expected_number_says_so(tmp_path: Path) -> None:
    """Trials of a quarter of a second under a limit of one: no more than four or five begin."""
    events: list[Event] = []
    plan = StudyPlan(**{**vars(shared("", slow=0.25)), "seconds": 0.9, "n_trials": 50})
    ended = run_study(plan, new_context(new_run(tmp_path, "run"), events))
    spent = [placed.trial.user_attrs["seconds"] for placed in ended]
    assert sum(spent) >= 0.9 > sum(spent[:-1]) and len(ended) < 5
    totals = [e.total for e in events if isinstance(e, Progress) and e.done >= 1]
    assert totals[0] < 50 and totals[-1] == len(ended)
    assert expected_trials(plan, []) == 50 and math.isinf(shared("").seconds)


def test_more_trials_go_on_from_those_there_are(tmp_path: Path) -> None:
    run = new_run(tmp_path, "run")
    few = run_study(StudyPlan(**{**vars(shared("")), "n_trials": 3}), new_context(run))
    more = run_study(StudyPlan(**{**vars(shared("")), "n_trials": 5}), new_context(run))
    assert [p.trial.params for p in more[:3]] == [p.trial.params for p in few] and len(more) == 5
    again = run_study(StudyPlan(**{**vars(shared("")), "n_trials": 2}), new_context(run))
    assert [p.trial.params for p in again] == [p.trial.params for p in few[:2]], "fewer are the first of them"
    assert all(isinstance(placed, Placed) for placed in again)


def test_a_password_has_no_place_in_the_plan(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="password") as caught,
        opened_storage("postgresql://user:geheim@host/db", tmp_path / "s.db"),
    ):
        pass
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("bad", ["nosuchdb://x/y", "://", "sqlite:////nowhere/at/all/x.db"])
def test_a_storage_that_cannot_be_used_is_one_sentence(tmp_path: Path, bad: str) -> None:
    with pytest.raises(UserError, match="cannot keep its trials"), opened_storage(bad, tmp_path / "s.db"):
        pass


def test_a_journal_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"), opened_storage(str(tmp_path / "no" / "j"), tmp_path / "s"):
        pass


def test_a_journal_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "j.log").write_text("no journal\nat all\n{}\n", encoding="utf-8")
    with (
        pytest.raises(UserError, match="cannot keep its trials"),
        opened_storage(str(tmp_path / "j.log"), tmp_path / "s"),
    ):
        pass
