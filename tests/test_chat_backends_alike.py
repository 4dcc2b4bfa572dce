"""Ollama and the built-in llama.cpp are given the same prompts and settings, and one stands in for the other."""

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from chat_families import FAMILIES, prompts_of, template
from chat_parts import NativeOllama, base_gguf, made_in
from fake_ollama import FakeOllama, full

from aegis_core.cancel import CancelToken
from aegis_core.chat.backend import NEUTRAL, Sampling, refuse_overflow
from aegis_core.chat.embedded import EmbeddedBackend
from aegis_core.chat.ollama import OllamaClient
from aegis_core.chat.ollama_model import OllamaBackend
from aegis_core.chat.prompt import ChatPrompts
from aegis_core.chat.session import open_backend
from aegis_core.chat.template import PromptMismatch
from aegis_core.chat.template_check import PromptCheck
from aegis_core.chat.template_derive import talk
from aegis_core.chat.template_verify import probe_conversations
from aegis_core.chat.thoughts import Thoughts
from aegis_core.events import Event, Log
from aegis_core.failures import UserError
from aegis_core.gguf_export.llama import LlamaServer
from aegis_core.models.identity import BaseModel, write_base
from aegis_core.plan import ChatPlan, Plan, changed
from aegis_core.run_directory import RunDirectory, read_json, write_json

SAMPLING = Sampling(0.7, 0.9, 40, 1.1, 50, 0)
N_PROBES = len(probe_conversations(with_system=True))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeOllama]:
    monkeypatch.setenv("AEGIS_CACHE", str(tmp_path / "cache"))
    with FakeOllama() as fake:
        monkeypatch.setenv("OLLAMA_HOST", fake.address)
        yield fake


@pytest.fixture
def qwen(tmp_path: Path) -> ChatPrompts:
    return prompts_of("qwen2.5-instruct", tmp_path / "qwen2.5")


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, qwen: ChatPrompts) -> Iterator[NativeOllama]:
    monkeypatch.setenv("AEGIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(OllamaClient, "show", lambda self, model: {"template": qwen.template})
    fake = NativeOllama()
    fake.prompts = qwen
    with fake:
        monkeypatch.setenv("OLLAMA_HOST", fake.address)
        yield fake


@pytest.fixture(scope="module")
def pico_gguf(pico_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AEGIS_CACHE", str(tmp_path_factory.mktemp("check cache")))
        return base_gguf(pico_model, tmp_path_factory.mktemp("check") / "run")


@pytest.mark.parametrize("source", ["{{ messages | no_filter_of_llama_cpp }}", "mistral-small-3.1-instruct"])
def test_a_template_that_llama_cpp_cannot_read_does_not_keep_it_from_the_model(
    pico_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(pico_model, folder)
    (folder / "chat_template.jinja").write_text(template(source) if source in FAMILIES else source, encoding="utf-8")
    monkeypatch.setenv("AEGIS_CACHE", str(tmp_path / "cache"))
    with LlamaServer(base_gguf(folder, tmp_path / "run"), n_ctx=256) as llama:
        assert llama.tokenize("waves")


def test_llama_cpp_reads_the_text_of_every_probe_as_the_tokenizer_does(pico_model: Path, pico_gguf: Path) -> None:
    backend = EmbeddedBackend(pico_gguf, ChatPrompts(pico_model), 512)
    try:
        assert backend.check_prompts(CancelToken()) == PromptCheck("tokenised", N_PROBES)
    finally:
        backend.close()


def test_both_backends_are_given_the_same_prompts_and_sampling(
    server: FakeOllama, pico_model: Path, pico_gguf: Path, tmp_path: Path
) -> None:
    prompts, plan = ChatPrompts(pico_model), ChatPlan()
    with OllamaClient() as client:
        remote = OllamaBackend(client, made_in(server, prompts, tmp_path), prompts, plan)
        local = EmbeddedBackend(pico_gguf, prompts, plan.num_ctx)
        try:
            for messages in probe_conversations(with_system=True):
                remote.answer(messages, SAMPLING, lambda text: None, lambda: False)
                asked = server.chats[-1]
                given = local._request(prompts.token_ids(messages), SAMPLING, from_cache=False)
                led = prompts.bos if prompts.format.bos else ""
                assert prompts.encode(led + server.rendered("aegis", asked["messages"])) == given["prompt"]
            options = asked["options"]
            shared = {name: value for name, value in given.items() if name in options}
            assert shared == {name: value for name, value in options.items() if name in given}
            assert set(NEUTRAL) | {"temperature", "top_p", "top_k", "repeat_penalty", "seed"} == set(shared)
            assert options["num_predict"] == given["max_tokens"] == SAMPLING.max_tokens
            assert asked["truncate"] is asked["shift"] is False
            assert server.models[full("aegis")].request["parameters"]["stop"] == given["stop"] == list(prompts.stops)
        finally:
            local.close()


def test_both_backends_begin_with_the_system_text_of_the_plan(
    server: FakeOllama, pico_model: Path, pico_gguf: Path, tmp_path: Path
) -> None:
    prompts = ChatPrompts(pico_model)
    told = [{"role": "system", "content": "Be brief."}, *talk("Why?")]
    with OllamaClient() as client:
        made = made_in(server, prompts, tmp_path, system="Be brief.")
        remote = OllamaBackend(client, made, prompts, ChatPlan())
        local = EmbeddedBackend(pico_gguf, prompts, 256, made.system)
        try:
            counts = [
                backend.answer(messages, SAMPLING, lambda text: None, lambda: False).n_expected_prompt_tokens
                for backend in (remote, local)
                for messages in (talk("Why?"), told)
            ]
        finally:
            local.close()
    assert counts == [len(prompts.token_ids(told))] * 4
    assert server.chats[0]["messages"] == server.chats[1]["messages"] == told


@pytest.fixture
def run_to_talk_to(qwen: ChatPrompts, pico_model: Path, pico_gguf: Path, tmp_path: Path) -> RunDirectory:
    """As the export step leaves it, its model with a template that Ollama may take in its own way."""
    run = RunDirectory.create(tmp_path / "run", Plan(chat=ChatPlan(backend="auto", num_ctx=512)))
    folder = tmp_path / "fused"
    shutil.copytree(pico_model, folder)
    (folder / "chat_template.jinja").write_text(qwen.template, encoding="utf-8")
    write_base(run, BaseModel(str(folder), "", str(folder), "1" * 64, "mit", "Llama", 1, 64, 320, False))
    write_json(run.step_folder("fuse") / "proof.json", {"folder": str(folder)})
    run.step_folder("export").mkdir()
    shutil.copyfile(pico_gguf, run.step_folder("export") / "pico-F16.gguf")
    write_json(run.step_folder("export") / "files.json", [{"path": "export/pico-F16.gguf", "type": "f16"}])
    return run


def test_where_ollama_makes_other_prompts_the_built_in_llama_cpp_answers_unless_ollama_is_demanded(
    native: NativeOllama, qwen: ChatPrompts, run_to_talk_to: RunDirectory
) -> None:
    native.spoilt = True
    heard: list[Event] = []
    opened = open_backend(run_to_talk_to, run_to_talk_to.plan(), "aegis", heard.append)
    opened.close()
    assert opened.name == "embedded" and native.models == {}
    assert any(isinstance(e, Log) and e.level == "warning" and "another prompt" in e.text for e in heard)
    with pytest.raises(PromptMismatch) as refusal:
        open_backend(run_to_talk_to, changed(run_to_talk_to.plan(), {"chat.backend": "ollama"}))
    assert refusal.value.changes == {"chat.backend": "embedded"}


def test_a_date_in_the_prompts_is_told(run_to_talk_to: RunDirectory, pico_model: Path) -> None:
    plan = changed(run_to_talk_to.plan(), {"chat.backend": "embedded"})
    said = "states the date"
    heard: list[Event] = []
    open_backend(run_to_talk_to, plan, "aegis", heard.append).close()
    assert not any(said in e.text for e in heard if isinstance(e, Log))
    folder = Path(read_json(run_to_talk_to.step_folder("fuse") / "proof.json")["folder"])
    (folder / "chat_template.jinja").write_text(template("llama-3.2-instruct"), encoding="utf-8")
    open_backend(run_to_talk_to, plan, "aegis", heard.append).close()
    assert any(said in e.text and str(date.today().year) in e.text for e in heard if isinstance(e, Log))


def test_both_backends_refuse_a_conversation_beyond_the_context_in_the_same_words(
    server: FakeOllama, pico_model: Path, pico_gguf: Path, tmp_path: Path
) -> None:
    prompts, plan = ChatPrompts(pico_model), ChatPlan(num_ctx=256)
    long = talk("waves " * 300)
    refusals = []
    with OllamaClient() as client:
        remote = OllamaBackend(client, made_in(server, prompts, tmp_path), prompts, plan)
        local = EmbeddedBackend(pico_gguf, prompts, plan.num_ctx)
        try:
            for backend in (remote, local):
                with pytest.raises(UserError, match="longer than the 256") as refusal:
                    backend.answer(long, SAMPLING, lambda text: None, lambda: False)
                refusals.append((refusal.value.reason, refusal.value.advice))
        finally:
            local.close()
    assert refusals[0] == refusals[1]
    assert server.chats == []


def test_what_the_plan_does_not_set_is_as_ollama_has_it_by_itself() -> None:
    ollamas = {"min_p": 0.0, "typical_p": 1.0, "repeat_last_n": 64, "presence_penalty": 0.0, "frequency_penalty": 0.0}
    assert ollamas == NEUTRAL


def test_a_prompt_must_leave_room_for_an_answer() -> None:
    refuse_overflow(255, 256)
    with pytest.raises(UserError):
        refuse_overflow(256, 256)


def test_llama_cpp_takes_every_setting_of_the_sampling(pico_model: Path, pico_gguf: Path) -> None:
    prompts = ChatPrompts(pico_model)
    backend = EmbeddedBackend(pico_gguf, prompts, 512)
    try:
        ids = prompts.token_ids(talk("Why?"))
        told = backend._llama.complete(
            {**backend._request(ids, SAMPLING, from_cache=False), "max_tokens": 1, "verbose": True}
        )
        used = told["__verbose"]["generation_settings"]
    finally:
        backend.close()
    assert {name: used[name] for name in SAMPLING.options()} == pytest.approx(SAMPLING.options())
    assert used["samplers"] == ["penalties", "top_k", "typ_p", "top_p", "min_p", "temperature"]
    assert (used["mirostat"], used["dynatemp_range"], used["dry_multiplier"], used["xtc_probability"]) == (0, 0, 0, 0)


def test_thoughts_that_come_apart_stand_in_the_text_again() -> None:
    thoughts = Thoughts()
    pieces = [{"thinking": "Hm"}, {"thinking": "."}, {"content": "Yes"}, {"content": "."}, {}]
    assert "".join(map(thoughts.text, pieces)) == "<think>\nHm.\n</think>\n\nYes."
    assert Thoughts().text({"content": "Yes"}) == "Yes"
