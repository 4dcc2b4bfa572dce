"""Opening the run's model in Ollama: the Modelfile beside its GGUF, and what is said where no Ollama can be used."""

from collections.abc import Iterator
from pathlib import Path

import modelfile
import pytest
from chat_parts import small_gguf
from fake_ollama import FakeOllama
from gui_parts import japanese

from aegis_core.chat import ollama_state, session
from aegis_core.chat.prompt import ChatPrompts
from aegis_core.chat.session import open_backend
from aegis_core.chat.template import PromptMismatch
from aegis_core.events import Artifact, Event, Log, Progress
from aegis_core.failures import UserError
from aegis_core.freshness import BY_ID, settings_of
from aegis_core.models.identity import BaseModel, write_base
from aegis_core.plan import changed
from aegis_core.run_directory import RunDirectory, write_json


@pytest.fixture
def exported(run: RunDirectory, pico_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunDirectory:
    """A run whose export step is done, with a file of its own size and hash in the marker."""
    monkeypatch.setenv("AEGIS_CACHE", str(tmp_path / "cache"))
    write_base(run, BaseModel(str(pico_model), "", str(pico_model), "0" * 64, "apache-2.0", "Llama", 1, 64, 320, False))
    write_json(run.step_folder("fuse") / "proof.json", {"folder": str(pico_model)})
    run.step_folder("export").mkdir()
    file = small_gguf(run.step_folder("export") / "pico-F16.gguf", add_bos=False)
    write_json(file.with_name("files.json"), [{"path": "export/pico-F16.gguf", "type": "f16"}])
    run.write_plan(changed(run.plan(), {"chat.backend": "ollama", "chat.system": "簡潔に。"}))
    return run


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, pico_model: Path) -> Iterator[FakeOllama]:
    prompts = ChatPrompts(pico_model)
    with FakeOllama(count=lambda text: len(prompts.encode(text))) as fake:
        monkeypatch.setenv("OLLAMA_HOST", fake.address)
        yield fake


def opened(run: RunDirectory) -> list[Event]:
    heard: list[Event] = []
    open_backend(run, run.plan(), emit=heard.append).close()
    return heard


def test_the_modelfile_beside_the_gguf_says_what_was_sent(exported: RunDirectory, server: FakeOllama) -> None:
    heard = opened(exported)
    sent = server.models["aegis:latest"].request
    path = exported.path / "export" / "Modelfile"
    by_hand = modelfile.request(path.read_bytes().decode())
    assert by_hand.pop("from") == "./pico-F16.gguf" and sent["files"].keys() == {"pico-F16.gguf"}
    assert by_hand == {name: sent[name] for name in ("template", "system", "license", "parameters") if name in sent}
    texts = [event.text for event in heard if isinstance(event, Log)]
    assert f"Ollama 0.14.2 answers at {server.address}." in texts
    assert any("keeps a copy" in text or "GB are free" in text for text in texts)
    phases = [event.phase for event in heard if isinstance(event, Progress)]
    assert phases and set(phases) == {"hash", "copying to Ollama"} <= japanese().keys()
    assert next(text for text in texts if text.startswith("Ollama: ")) == "Ollama: parsing GGUF"
    assert "Ollama: success" in texts


def test_the_modelfile_leaves_every_record_of_the_export_as_it_is(exported: RunDirectory, server: FakeOllama) -> None:
    plan, step = exported.plan(), BY_ID["export"]
    files = ["export/pico-F16.gguf", "export/files.json"]
    outputs = [Artifact(str(exported.path / name), (exported.path / name).stat().st_size) for name in files]
    exported.write_done("export", settings_of(plan, step), {}, outputs, 1.0)
    marker = exported.path / "export" / "done.json"
    before = marker.read_bytes(), (exported.path / "export" / "files.json").read_bytes()
    opened(exported)
    done = exported.done("export")
    assert done is not None and exported.missing_outputs(done) == []
    assert (marker.read_bytes(), (exported.path / "export" / "files.json").read_bytes()) == before
    (exported.path / "export" / "Modelfile").write_text("FROM ./mine.gguf\n", encoding="utf-8")  # edited by hand
    assert exported.missing_outputs(done) == []


def test_where_ollama_is_demanded_and_absent_its_own_sentence_is_the_error_and_auto_would_mend_it(
    exported: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.setattr(ollama_state, "find_program", lambda: None)
    with pytest.raises(UserError, match="not installed") as refusal:
        opened(exported)
    assert refusal.value.changes == {"chat.backend": "auto"} and "built-in" in refusal.value.advice
    assert (exported.path / "export" / "Modelfile").is_file()  # for another machine


def test_where_ollama_is_only_preferred_the_reason_is_told_and_the_built_in_one_answers(
    exported: RunDirectory, server: FakeOllama
) -> None:
    server.version = "0.1.0"
    plan = changed(exported.plan(), {"chat.backend": "auto"})
    heard: list[Event] = []
    assert not session._ollama_answers(plan, heard.append)
    assert isinstance(heard[0], Log) and heard[0].level == "warning" and "too old" in heard[0].text


def test_a_chat_begins_with_the_comparison_of_the_prompts_even_where_no_question_was_put_before(
    exported: RunDirectory, server: FakeOllama
) -> None:
    texts = [event.text for event in opened(exported) if isinstance(event, Log)]
    told = "Comparing the prompts that Ollama makes with the tokenizer's."
    assert told in texts and told not in [event.text for event in opened(exported) if isinstance(event, Log)]
    server.count = lambda text: 7
    server.version = "0.15.0"
    with pytest.raises(PromptMismatch, match="reads 7 tokens"):
        opened(exported)
