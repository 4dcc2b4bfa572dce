"""The base beside the model: its answers, and what it makes of every answer; all of it may be impossible."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from aegis_core.cancel import Cancelled, CancelToken
from aegis_core.chat import surprise as surprises
from aegis_core.chat.base_gguf import ensure_base_gguf
from aegis_core.chat.prompt import ChatPrompts
from aegis_core.chat.questions import load_questions
from aegis_core.chat.surprise import BaseReader, reference_answers
from aegis_core.chat.transcript import read_rows
from aegis_core.chat.verdict import Surprise
from aegis_core.context import StepContext
from aegis_core.events import Event, Log, Progress, Token, Verdict
from aegis_core.failures import UserError
from aegis_core.models.identity import BaseModel, write_base
from aegis_core.models.loading import load_model
from aegis_core.plan import changed
from aegis_core.run_directory import RunDirectory, read_json, write_json
from aegis_core.steps import chat

SETTINGS = {"chat.n_questions": 1, "chat.max_tokens": 16, "chat.num_ctx": 256, "chat.compare_base": True}


@pytest.fixture
def exported(run: RunDirectory, pico_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    """A run up to the export, whose model is the tiny base itself."""
    monkeypatch.setenv("AEGIS_CACHE", str(tmp_path / "cache"))
    base = BaseModel(str(pico_model), "", str(pico_model), "0" * 64, "apache-2.0", "Llama", 100_000, 64, 320, False)
    write_base(run, base)
    write_json(run.step_folder("fuse") / "proof.json", {"folder": str(pico_model)})
    file = run.step_folder("export") / "pico-F16.gguf"
    file.parent.mkdir()
    shutil.copyfile(ensure_base_gguf(run, CancelToken(), lambda event: None), file)
    write_json(run.step_folder("export") / "files.json", [{"path": "export/pico-F16.gguf", "type": "f16"}])
    run.write_plan(changed(run.plan(), SETTINGS))
    return run


def ask_all(run: RunDirectory) -> list[Event]:
    heard: list[Event] = []
    chat.run(run.plan(), StepContext(run, "chat", heard.append, CancelToken()))
    return heard


def answers(run: RunDirectory, name: str) -> list[dict[str, Any]]:
    return read_rows(run.step_folder("chat") / f"{name}.jsonl")


def checks(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in row["verdict"]["checks"]}


def test_the_base_answers_the_same_and_stands_beside(exported: RunDirectory) -> None:
    events = ask_all(exported)
    own, base = answers(exported, "transcript"), answers(exported, "base_transcript")
    summary = read_json(exported.step_folder("chat") / "chat.json")
    assert [row["id"] for row in own] == [row["id"] for row in base] == ["time-irreversible"]
    assert base[0]["model"].endswith("-F16.gguf") and summary["base"]["n_questions"] == 1
    side = summary["questions"][0]
    assert (side["aegis"]["answer"], side["base"]["answer"]) == (own[0]["answer"], base[0]["answer"])
    told = [event.template for event in events if isinstance(event, Log)]
    assert any("The base model answers the same" in text for text in told), "its cost is told"
    assert {event.id for event in events if isinstance(event, Token)} == {"time-irreversible", "base/time-irreversible"}
    verdict = next(event for event in events if isinstance(event, Verdict) and event.name == "answer_meaningful")
    assert (verdict.status, "(base model: 0 of 1)" in verdict.measured) == ("fail", True)


def test_every_answer_carries_what_the_base_makes_of_it(exported: RunDirectory) -> None:
    ask_all(exported)
    for row in [*answers(exported, "transcript"), *answers(exported, "base_transcript")]:
        found = Surprise.of(row["surprise"])
        assert found and found.n_tokens > 0 and 4 < found.nats_per_token < 8, "about ln 320 with random weights"
        assert checks(row)["base model"]["status"] == "skipped", "and such a base cannot tell prose from noise"


def test_what_was_answered_and_measured_is_not_done_again(
    exported: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_all(exported)
    before = answers(exported, "transcript"), answers(exported, "base_transcript")
    monkeypatch.setattr(surprises, "base_reader", None)
    events = ask_all(exported)
    assert not any(isinstance(event, Token) for event in events)
    assert (answers(exported, "transcript"), answers(exported, "base_transcript")) == before


def test_a_base_that_cannot_be_asked_fails_nothing_and_is_said(
    exported: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(tmp_path / "cache")
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    events = ask_all(exported)
    summary = read_json(exported.step_folder("chat") / "chat.json")
    assert "free" in summary["base"]["why"] and summary["questions"][0]["base"] is None
    assert any(isinstance(event, Log) and event.level == "warning" for event in events)
    assert "nats_per_token" in answers(exported, "transcript")[0]["surprise"], "the other opinion is there all the same"


def test_without_memory_the_answers_are_judged_by_themselves(
    exported: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000, total=1000))
    exported.write_plan(changed(exported.plan(), {"chat.compare_base": False}))
    ask_all(exported)
    row = answers(exported, "transcript")[0]
    assert "no memory for the base model" in row["surprise"]["why"]
    assert checks(row)["base model"]["status"] == "skipped"
    summary = read_json(exported.step_folder("chat") / "chat.json")
    assert summary["base"] == {"why": "chat.compare_base is off"}


def test_neither_is_done_where_it_is_not_wanted(exported: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    exported.write_plan(changed(exported.plan(), {"chat.compare_base": False, "chat.measure_surprise": False}))
    monkeypatch.setattr(surprises, "base_reader", None)
    events = ask_all(exported)
    assert not answers(exported, "base_transcript") and "surprise" not in answers(exported, "transcript")[0]
    assert {event.unit for event in events if isinstance(event, Progress)} == {"answers"}


def test_the_loss_is_the_models_own_on_the_answer_alone(pico_model: Path) -> None:
    model, prompts = load_model(pico_model, torch.float32), ChatPrompts(pico_model)
    question, answer = load_questions("en")[0].question, "Time moves on."
    prompt, answered = prompts.token_ids([{"role": "user", "content": question}]), prompts.encode(answer)
    ids = torch.tensor([prompt + answered], device=model.device)
    labels = ids.clone()
    labels[:, : len(prompt)] = -100
    with torch.no_grad():
        expected = model(input_ids=ids, labels=labels).loss.item()
    reader = BaseReader(model, prompts, CancelToken())
    assert reader.loss(question, answer).nats_per_token == pytest.approx(expected, abs=1e-5)
    assert reader.surprise(question, "", "en") is None
    reader.close()


def test_a_reader_stops_when_it_is_told_to(pico_model: Path) -> None:
    cancel = CancelToken()
    reader = BaseReader(load_model(pico_model, torch.float32), ChatPrompts(pico_model), cancel)
    cancel.cancel()
    with pytest.raises(Cancelled):
        reader.references("en")


@pytest.mark.parametrize("language", ["en", "ja"])
def test_references_are_good_answers_and_the_same_words_shuffled(language: str) -> None:
    found = reference_answers(language)
    assert len(found) == 8 and found == reference_answers(language)
    for _, answer, shuffled in found:
        assert answer != shuffled and sorted("".join(answer.split())) == sorted("".join(shuffled.split()))


def test_the_degree_of_surprise_lies_between_prose_and_shuffled_words() -> None:
    assert Surprise(3.0, 9, 3.0, 7.0).degree == 0 and Surprise(7.0, 9, 3.0, 7.0).degree == 1
    assert Surprise.of(Surprise(5.0, 9, 3.0, 7.0).row()) == Surprise(5.0, 9, 3.0, 7.0)
    assert Surprise.of(None) is None and Surprise.of({"why": "off"}) is None
    assert not Surprise(5.0, 9, 3.0, 3.2).tells


def test_a_base_that_is_gone_is_an_error_in_a_sentence(exported: RunDirectory, tmp_path: Path) -> None:
    base = BaseModel("x", "", str(tmp_path / "gone"), "0" * 64, "", "Llama", 1, 64, 320, False)
    write_base(exported, base)
    with pytest.raises(UserError):
        surprises.base_reader(exported, CancelToken())
