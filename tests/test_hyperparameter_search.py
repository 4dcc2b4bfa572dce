"""The hyperparameter search on a two-layer model: real short runs, and trials that must not count."""

import math
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from aegis_core import plan as plans
from aegis_core.cancel import CancelToken
from aegis_core.context import StepContext
from aegis_core.data.packed import Packed, load_packed, save_packed
from aegis_core.events import Event, TrialFinished, TrialRunning
from aegis_core.failures import UserError
from aegis_core.models.identity import BaseModel, read_base, write_base
from aegis_core.models.loading import load_model
from aegis_core.plan import Plan
from aegis_core.run_directory import RunDirectory, read_json
from aegis_core.search import short_run, space
from aegis_core.search.applying import SETTINGS
from aegis_core.search.short_run import ShortRuns
from aegis_core.steps import search as search_step
from aegis_core.training.trainer import fit


@pytest.fixture(scope="session")
def search_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Llama without a tokenizer: the search reads packed tokens only."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("search base")
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def prepared_context(tmp_path: Path, search_base: Path) -> StepContext:
    """A run whose prepare step left sequences of 8 tokens out of 128, so that there is something to learn."""
    run = RunDirectory.create(tmp_path / "ri tual 日本語", Plan())
    base = BaseModel("pico", "local", str(search_base), "0" * 64, "CC0", "LlamaForCausalLM", 1, 32, 128, False)
    write_base(run, base)
    torch.manual_seed(1)
    sequences = torch.randint(0, 8, (40, 4)).repeat(1, 8)
    save_packed(run.step_folder("prepare") / "train.safetensors", Packed(sequences[:32], sequences[:32]))
    save_packed(run.step_folder("prepare") / "held_out.safetensors", Packed(sequences[32:], sequences[32:]))
    return StepContext(run, "search", lambda event: None, CancelToken())


def search_plan(**changes: Any) -> Plan:
    settings: dict[str, Any] = {
        "data__sequence_length": 32,
        "search__tokens_per_trial": 1024,
        "search__learning_rate_low": 1e-4,
        "search__learning_rate_high": 3e-2,
        "search__n_trials": 4,
        "search__compare": False,
        "lora__rank": 4,
    }
    return plans.changed(Plan(), {name.replace("__", "."): value for name, value in (settings | changes).items()})


def heard(context: StepContext) -> tuple[StepContext, list[Event]]:
    events: list[Event] = []
    return StepContext(context.run, "search", events.append, CancelToken()), events


def test_search_trains_every_trial_on_the_same_tokens_and_keeps_the_best(prepared_context: StepContext) -> None:
    ctx, events = heard(prepared_context)
    search_step.run(search_plan(), ctx)
    rows = read_json(ctx.folder / "trials.json")
    complete = [row for row in rows if row["state"] == "COMPLETE"]
    assert len(rows) == 4 and complete
    for row in complete:
        assert row["steps"] * row["params"]["batch_size"] * 32 == row["tokens"] == 1024
        assert set(row["intermediate"]) == {"25", "50", "75", "100"}
    best = read_json(ctx.folder / "best.json")
    assert best["tokens"] == 1024
    assert best["value"] == min(row["value"] for row in complete) < math.log(128)
    assert set(best["changes"]) == {SETTINGS[name] for name in best["params"]}
    plans.changed(Plan(), best["changes"])
    assert [event.number for event in events if isinstance(event, TrialFinished)] == [0, 1, 2, 3]
    live = [event for event in events if isinstance(event, TrialRunning) and event.number == 1]
    assert [len(event.curve) for event in live] == [0, 1, 2, 3, 4], "each reading is told while the trial runs"
    ended = next(event for event in events if isinstance(event, TrialFinished) and event.number == 1)
    assert live[-1].curve == ended.curve and live[0].params == ended.params
    assert not (ctx.folder / "scratch").exists() or not list((ctx.folder / "scratch").iterdir())


def test_the_tokens_of_a_trial_are_counted_and_not_just_planned(
    prepared_context: StepContext,
) -> None:
    """Sequences half as long as the plan believes: half the tokens are told."""
    prepared = prepared_context.run.step_folder("prepare")
    long = load_packed(prepared / "train.safetensors")
    save_packed(prepared / "train.safetensors", Packed(long.input_ids[:, :16], long.labels[:, :16]))
    search_step.run(search_plan(search__n_trials=2), prepared_context)
    rows = read_json(prepared_context.folder / "trials.json")
    assert {row["tokens"] for row in rows if row["state"] == "COMPLETE"} == {512}
    assert read_json(prepared_context.folder / "best.json")["tokens"] == 512


def test_a_search_gives_the_same_result_again(prepared_context: StepContext, tmp_path: Path) -> None:
    def searched(name: str) -> list[dict[str, Any]]:
        run = RunDirectory(tmp_path / name)
        shutil.copytree(prepared_context.run.path, run.path)
        search_step.run(search_plan(search__n_trials=3), StepContext(run, "search", lambda event: None, CancelToken()))
        rows = read_json(run.step_folder("search") / "trials.json")
        return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]

    assert searched("one") == searched("two")


def test_the_base_is_loaded_once_and_not_for_every_trial(
    prepared_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def load(*arguments: Any, **named: Any) -> Any:
        loaded.append(arguments)
        return load_model(*arguments, **named)

    monkeypatch.setattr(short_run, "load_model", load)
    search_step.run(search_plan(search__compare=True, search__repeats=1), prepared_context)
    assert len(loaded) == 1


def test_a_search_of_six_trials_cuts_none_short(prepared_context: StepContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """However poor the last one is: five others are no measure yet."""
    rates = iter([1e-2] * 5 + [1e-9])

    def set_rates(trial: optuna.Trial, space: Any) -> dict[str, Any]:
        rate = next(rates)
        return {"learning_rate": trial.suggest_float("learning_rate", rate, rate), "batch_size": 4}

    monkeypatch.setattr(search_step, "suggest", set_rates)
    search_step.run(search_plan(search__n_trials=6), prepared_context)
    assert [row["state"] for row in read_json(prepared_context.folder / "trials.json")] == ["COMPLETE"] * 6


def test_a_trial_leaves_the_base_as_it_was(prepared_context: StepContext) -> None:
    """The second of two equal trials on one base gives the first one's loss to the last bit."""
    runs = short_runs(prepared_context)
    before = {name: tensor.clone() for name, tensor in runs.base.state_dict().items()}
    plan = space.trial_plan(search_plan(), {"batch_size": 2, "learning_rate": 1e-2}, 1024)
    losses = [runs.held_out_loss(plan, lambda step: None, lambda percent, loss: None) for _ in range(2)]
    assert losses[0] == losses[1]
    after = runs.base.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_the_gate_is_in_the_forward_pass_of_a_trial(prepared_context: StepContext) -> None:
    runs = short_runs(prepared_context)

    def loss(**soul: Any) -> float:
        plan = space.trial_plan(search_plan(**soul), {"batch_size": 2, "learning_rate": 1e-2}, 1024)
        return runs.held_out_loss(plan, lambda step: None, lambda percent, loss: None)

    assert loss(soul__calibrate=False) != loss(soul__calibrate=True)


def short_runs(context: StepContext) -> ShortRuns:
    prepared = context.run.step_folder("prepare")
    return ShortRuns(
        load_model(read_base(context.run).path, torch.float32),
        load_packed(prepared / "train.safetensors"),
        load_packed(prepared / "held_out.safetensors"),
        CancelToken(),
        context.folder / "scratch",
    )


def test_a_trial_that_breaks_down_fails_with_its_reason(
    prepared_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One trial meets a NaN weight, one runs out of memory; neither is a score, and the study goes on."""
    calls = iter(range(1000))

    def breaking(*arguments: Any, **named: Any) -> None:
        match next(calls):
            case 0:
                with torch.no_grad():
                    next(p for p in arguments[0].parameters() if p.requires_grad).fill_(math.nan)
            case 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
        fit(*arguments, **named)

    monkeypatch.setattr(short_run, "fit", breaking)
    search_step.run(search_plan(), prepared_context)
    rows = read_json(prepared_context.folder / "trials.json")
    assert [row["state"] for row in rows][:2] == ["FAIL", "FAIL"]
    assert "not a finite number" in rows[0]["reason"] and "memory" in rows[1]["reason"]
    assert rows[0]["value"] is None and rows[1]["value"] is None
    best = read_json(prepared_context.folder / "best.json")
    assert best["value"] in [row["value"] for row in rows[2:]]


def test_a_search_in_which_every_trial_fails_is_refused(
    prepared_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*arguments: Any, **named: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(short_run, "fit", no_memory)
    with pytest.raises(UserError, match="None of the 4 trials succeeded"):
        search_step.run(search_plan(), prepared_context)
    assert not (prepared_context.folder / "best.json").exists()


def test_a_hopeless_trial_is_pruned(prepared_context: StepContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """After as many good trials as it takes, one that hardly learns is cut short at its first glance."""
    n_good = search_step.FEWEST_OTHERS
    rates = iter([1e-2] * n_good + [1e-9])

    def set_rates(trial: optuna.Trial, space: Any) -> dict[str, Any]:
        rate = next(rates)
        return {"learning_rate": trial.suggest_float("learning_rate", rate, rate), "batch_size": 1}

    monkeypatch.setattr(search_step, "suggest", set_rates)
    search_step.run(search_plan(search__n_trials=n_good + 1, search__tokens_per_trial=1024), prepared_context)
    rows = read_json(prepared_context.folder / "trials.json")
    assert [row["state"] for row in rows] == ["COMPLETE"] * n_good + ["PRUNED"]
    assert rows[-1]["value"] is None and set(rows[-1]["intermediate"]) == {"25"}


def test_a_budget_too_small_for_two_steps_is_refused(prepared_context: StepContext) -> None:
    with pytest.raises(UserError, match="512 are needed"):
        search_step.run(search_plan(data__sequence_length=64, search__tokens_per_trial=511), prepared_context)


def test_settings_that_do_not_go_together_fail_their_trial_only(
    prepared_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warm-up of alpha that would last longer than the schedule itself."""
    warmups = iter([0.39, 0.0])

    def set_warmups(trial: optuna.Trial, space: Any) -> dict[str, Any]:
        warmup = next(warmups)
        return {"alpha_warmup": trial.suggest_float("alpha_warmup", warmup, warmup), "batch_size": 2}

    monkeypatch.setattr(search_step, "suggest", set_warmups)
    search_step.run(search_plan(search__n_trials=2, soul__schedule__end_fraction=0.3), prepared_context)
    rows = read_json(prepared_context.folder / "trials.json")
    assert [row["state"] for row in rows] == ["FAIL", "COMPLETE"] and "end_fraction" in rows[0]["reason"]
