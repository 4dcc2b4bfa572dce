"""What is known of runs from their files alone: where each stands, what it reached, how several compare; names,
presets, duplicates, and what has to be known before one is deleted."""

from pathlib import Path
from typing import Any

import pytest
from gui_parts import recorded_run
from home_runs import cut_off, damaged, failed, finished, outdated

from aegis_core import events
from aegis_core.duplicate import duplicate
from aegis_core.failures import UsageError, UserError
from aegis_core.journal import newest
from aegis_core.names import free_name, usable_name
from aegis_core.plan import Plan, changed, demo_plan
from aegis_core.presets import BUNDLED, find_preset, preset_folder, presets, save_preset
from aegis_core.removal import removal
from aegis_core.run_card import RunCard, Standing, known_runs, run_card
from aegis_core.run_directory import RunDirectory, read_json, write_json
from aegis_core.side_by_side import side_by_side


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_DATA", str(tmp_path / "data 設定"))


def card_of(run: RunDirectory) -> RunCard:
    return run_card(run.path)


# ---- one run at a glance


def test_a_finished_run_tells_its_losses_and_verdicts(tmp_path: Path) -> None:
    card = card_of(finished(tmp_path / "done 完了"))
    assert (card.standing, card.step, card.n_done, card.n_steps) == (Standing.DONE, "", 7, 7)
    assert [round(card.numbers.losses[stage], 3) for stage in ("base", "fused", "q4_k_m")] == [4.012, 3.398, 3.455]
    assert (card.n_passed, len(card.verdicts)) == (6, 7)
    assert card.numbers.trained_tokens == 20352


def test_a_run_that_was_killed_says_in_which_step_and_how_far_it_was(tmp_path: Path) -> None:
    card = card_of(cut_off(tmp_path / "killed", step=52))
    assert (card.standing, card.step, card.n_of_step) == (Standing.CUT_OFF, "train", (52.0, 80.0, "steps"))


def test_a_stopped_run_counts_as_cut_off_and_a_failed_one_as_failed(tmp_path: Path) -> None:
    stopped = cut_off(tmp_path / "stopped")
    with stopped.events_path.open("a", encoding="utf-8") as file:
        file.write(events.encode(events.StepCancelled(stage="train", at=1.0)) + "\n")
    assert card_of(stopped).standing is Standing.CUT_OFF
    assert card_of(failed(tmp_path / "failed")).standing is Standing.FAILED


def test_new_and_half_done_runs_say_what_comes_next(tmp_path: Path) -> None:
    new = card_of(RunDirectory.create(tmp_path / "new", demo_plan()))
    assert (new.standing, new.step) == (Standing.NEW, "check")
    half = card_of(recorded_run(tmp_path / "half", demo_plan(), last="train"))
    assert (half.standing, half.step, half.n_done) == (Standing.UNDER_WAY, "fuse", 3)


def test_numbers_from_before_a_change_are_no_numbers(tmp_path: Path) -> None:
    card = card_of(outdated(tmp_path / "changed"))
    assert (card.standing, card.step) == (Standing.OUTDATED, "train")
    assert not card.numbers.losses
    assert not card.verdicts


def test_a_run_in_use_says_so(tmp_path: Path) -> None:
    run = cut_off(tmp_path / "used")
    with run.lock():
        assert card_of(run).standing is Standing.RUNNING


@pytest.mark.parametrize("text", ["{", "[]", '{"train": {"steps": "viele"}}', "\x00\xff"])
def test_a_damaged_plan_is_a_card_with_its_problem(tmp_path: Path, text: str) -> None:
    run = damaged(tmp_path / "broken")
    run.plan_path.write_text(text, encoding="utf-8")
    card = card_of(run)
    assert card.standing is Standing.DAMAGED
    assert card.problem is not None
    assert "plan.json" in card.problem.reason


def test_damaged_result_files_are_gaps_and_nothing_worse(tmp_path: Path) -> None:
    run = finished(tmp_path / "gaps")
    (run.path / "export" / "quality.json").write_text("[1", encoding="utf-8")
    (run.path / "chat" / "chat.json").write_text("7", encoding="utf-8")
    (run.path / "report.json").write_text('{"indicators": 3}', encoding="utf-8")
    card = card_of(run)
    assert "q4_k_m" not in card.numbers.losses
    assert "fused" in card.numbers.losses
    assert (card.numbers.n_answers, card.verdicts) == (None, {})


def test_runs_come_newest_first_and_each_once(tmp_path: Path) -> None:
    from home_runs import age

    for name, seconds in (("old", 500), ("new", 5), ("middle", 50)):
        age(RunDirectory.create(tmp_path / "runs" / name, demo_plan()), seconds)
    elsewhere = age(RunDirectory.create(tmp_path / "elsewhere", demo_plan()), 100)
    recent = [tmp_path / "runs" / "new", elsewhere.path, tmp_path / "gone"]
    assert [card.name for card in known_runs(tmp_path / "runs", recent)] == ["new", "middle", "elsewhere", "old"]
    assert known_runs(tmp_path / "nowhere") == []


def test_the_newest_events_are_read_from_the_end_and_torn_ones_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = [events.encode(events.Progress(n, 1000, "steps", stage="train")) for n in range(1000)]
    path.write_text("\n".join(lines) + '\n{"event": "Prog', encoding="utf-8")
    told = list(newest(path, n_bytes=2000))
    assert 5 < len(told) < 30
    assert [event.done for event in told] == list(range(999, 999 - len(told), -1))  # type: ignore[attr-defined]
    assert list(newest(tmp_path / "none")) == []


# ---- several


def test_side_by_side_shows_what_differs_and_which_loss_is_lowest(tmp_path: Path) -> None:
    cards = [
        card_of(finished(tmp_path / "a")),
        card_of(finished(tmp_path / "b", {"lora.rank": 32}, shift=-0.05)),
        card_of(RunDirectory.create(tmp_path / "c", demo_plan())),
    ]
    found = side_by_side(cards)
    assert found.settings == {"lora.rank": (16, 32, 16)}
    losses = found.numbers["loss.fused"]
    assert losses[2] is None
    assert losses[1] == pytest.approx(losses[0] - 0.05)  # type: ignore[operator]
    assert found.best("loss.fused") == 1
    assert found.best("loss.base") is None, "all the same"
    assert found.best("train.tokens") is None, "more is not better"
    assert found.same_text is None


def unsealed(path: Path) -> dict[str, Any]:
    """A marker that may be changed by hand: without the hash of what it says, as older versions wrote it."""
    return {key: value for key, value in read_json(path).items() if key != "self_sha256"}


def test_losses_of_different_texts_are_not_ranked(tmp_path: Path) -> None:
    runs = [finished(tmp_path / "a"), finished(tmp_path / "b", shift=-0.05)]
    for n, run in enumerate(runs):
        marker = unsealed(run.path / "prepare" / "done.json")
        marker["outputs"] = [{"path": "prepare/held_out.safetensors", "bytes": 3, "sha256": str(n)}]
        (run.path / "prepare" / "held_out.safetensors").write_text("abc", encoding="utf-8")
        write_json(run.path / "prepare" / "done.json", marker)
    alone = [card_of(run) for run in runs]
    assert alone[0].numbers.losses == {}, "what was trained on other data no longer counts"
    for run in runs:  # as if each had been trained on its own
        for step in ("train", "fuse", "export"):
            from aegis_core import freshness

            marker = unsealed(run.path / step / "done.json")
            marker["inputs"] = freshness.input_digests(run, run.plan(), freshness.BY_ID[step])
            write_json(run.path / step / "done.json", marker)
    found = side_by_side([card_of(run) for run in runs])
    assert found.same_text is False
    assert found.best("loss.fused") is None


# ---- duplicates and names


def test_a_duplicate_has_the_settings_and_nothing_else(tmp_path: Path) -> None:
    source = finished(tmp_path / "source", {"lora.rank": 32})
    before = {path: path.read_bytes() for path in source.path.rglob("*") if path.is_file()}
    made = duplicate(source, tmp_path / "複製 2")
    assert made.plan() == source.plan()
    assert [path.name for path in made.path.iterdir()] == ["plan.json"]
    assert {path: path.read_bytes() for path in source.path.rglob("*") if path.is_file()} == before
    with pytest.raises(UsageError, match="already a run"):
        duplicate(source, tmp_path / "複製 2")


def test_a_duplicate_gets_folders_of_its_own_outside(tmp_path: Path) -> None:
    folders = {"export.directory": str(tmp_path / "gguf" / "source"), "fuse.directory": str(tmp_path / "models")}
    source = RunDirectory.create(tmp_path / "source", changed(Plan(), folders))
    plan = duplicate(source, tmp_path / "second").plan()
    assert Path(plan.export.directory) == tmp_path / "gguf" / "second"
    assert Path(plan.fuse.directory) == tmp_path / "models" / "second"


@pytest.mark.parametrize("name", ["", " . ", "a/b", "a\\b", "a:b", "con", "NUL.txt", "x\ny", "長" * 80])
def test_a_name_that_some_system_refuses_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        usable_name(name)


def test_usable_names_lose_only_what_windows_would_drop(tmp_path: Path) -> None:
    assert usable_name("  実験 1. ") == "実験 1"
    assert usable_name("console") == "console"
    assert free_name(tmp_path, "a") == "a"
    (tmp_path / "a").mkdir()
    (tmp_path / "a-2").mkdir()
    assert free_name(tmp_path, "a") == "a-3"


# ---- presets


def test_presets_that_come_along_are_the_plans_own_defaults() -> None:
    assert find_preset("demo").plan() == demo_plan()
    assert BUNDLED[0].plan() == Plan()
    assert find_preset("phi-3.5-12gb").plan().model.source == "microsoft/Phi-3.5-mini-instruct"


def test_a_saved_preset_comes_back_without_what_belongs_to_one_run(tmp_path: Path) -> None:
    settings = {"lora.rank": 64, "export.types": ("q8_0",), "chat.system": "静かに"}
    private = {"export.directory": "/mnt/x", "model.remote_code_consent": "yes", "report.language": "en"}
    made = save_preset("夜間 64", changed(Plan(), settings | private))
    assert made.path == preset_folder() / "夜間 64.json"
    assert find_preset("夜間 64").plan() == changed(Plan(), settings)
    with pytest.raises(UsageError, match="already a preset"):
        save_preset("夜間 64", Plan())
    with pytest.raises(UsageError, match="already a preset"):
        save_preset("demo", Plan())
    assert [path.name for path in preset_folder().iterdir()] == ["夜間 64.json"]


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"settings": {"lora.rang": 3}}',
        '{"settings": {"lora.rank": 0}}',
        '{"format": 99, "settings": {}}',
    ],
)
def test_a_damaged_preset_is_named_and_stops_nothing(content: str) -> None:
    save_preset("good", changed(Plan(), {"lora.rank": 8}))
    (preset_folder() / "bad 破損.json").write_text(content, encoding="utf-8")
    found = {preset.name: preset for preset in presets()}
    assert found["good"].problem is None
    assert found["bad 破損"].problem is not None
    with pytest.raises(UserError):
        found["bad 破損"].plan()
    assert "bad 破損" in found["bad 破損"].problem.reason


def test_an_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        find_preset("nothing")
    assert "phi-3.5-12gb" in caught.value.advice


# ---- before a run is deleted


def test_what_lies_outside_is_named_before_a_run_is_deleted(tmp_path: Path) -> None:
    run = finished(
        tmp_path / "run", {"export.directory": str(tmp_path / "gguf 外"), "fuse.directory": str(tmp_path / "no")}
    )
    (tmp_path / "gguf 外").mkdir()
    found = removal(run.path)
    assert found.elsewhere == (tmp_path / "gguf 外",)
    assert found.n_bytes == sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file())


def test_a_run_in_use_is_not_deleted_and_a_damaged_one_can_be(tmp_path: Path) -> None:
    run = finished(tmp_path / "used")
    with run.lock(), pytest.raises(UserError, match="cannot be deleted"):
        removal(run.path)
    assert removal(damaged(tmp_path / "broken").path).elsewhere == ()
