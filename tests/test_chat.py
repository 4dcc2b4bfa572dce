"""The chat step, the chat child and the embedded backend on a tiny real model."""

import io
import json
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_ollama import FakeOllama
from filelock import FileLock
from rich.console import Console

from aegis_core.cancel import Cancelled, CancelToken
from aegis_core.chat import child, history, terminal
from aegis_core.chat.backend import Sampling
from aegis_core.chat.base_gguf import ensure_base_gguf
from aegis_core.chat.embedded import EmbeddedBackend
from aegis_core.chat.prompt import ChatPrompts
from aegis_core.chat.questions import load_questions
from aegis_core.chat.session import open_backend
from aegis_core.chat.template import Message
from aegis_core.chat.transcript import read_answers
from aegis_core.context import StepContext
from aegis_core.events import AnswerFinished, Event, Log, Progress, StepFailed, Token, Verdict
from aegis_core.failures import UserError
from aegis_core.gguf_export.llama import LlamaServer
from aegis_core.models.identity import BaseModel, write_base
from aegis_core.plan import Plan, changed
from aegis_core.run_directory import RunDirectory, read_json, write_json
from aegis_core.steps import chat

ASK = [{"role": "user", "content": "時間 moves?"}]
SAMPLING = Sampling(0.7, 0.9, 40, 1.1, 12, 0)
GOOD = (
    "Time has a direction because of the second law of thermodynamics. The entropy of an isolated system grows, since "
    "there are many more disordered states than ordered ones, and so the reverse is very improbable."
)


def identity_of(folder: Path) -> BaseModel:
    return BaseModel(str(folder), "", str(folder), "0" * 64, "apache-2.0", "Llama", 1, 64, 320, False)


@pytest.fixture(scope="session")
def chat_file(pico_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as GGUF, by way of the conversion that talking to a base model uses."""
    run = RunDirectory.create(tmp_path_factory.mktemp("chat") / "base 素体", Plan())
    write_base(run, identity_of(pico_model))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AEGIS_CACHE", str(tmp_path_factory.mktemp("chat cache")))
        return ensure_base_gguf(run, CancelToken(), lambda event: None)


@pytest.fixture
def chat_run(
    run: RunDirectory, pico_model: Path, chat_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RunDirectory:
    """A run as the export step leaves it, with the tiny model as its result and a cache of its own."""
    monkeypatch.setenv("AEGIS_CACHE", str(tmp_path / "cache"))
    write_base(run, identity_of(pico_model))
    write_json(run.step_folder("fuse") / "proof.json", {"folder": str(pico_model)})
    file = run.step_folder("export") / "pico-F16.gguf"
    file.parent.mkdir()
    shutil.copyfile(chat_file, file)
    write_json(run.step_folder("export") / "files.json", [{"path": "export/pico-F16.gguf", "type": "f16"}])
    run.write_plan(changed(run.plan(), {"chat.max_tokens": 16, "chat.num_ctx": 256}))
    return run


@pytest.fixture
def chat_server(monkeypatch: pytest.MonkeyPatch, chat_run: RunDirectory, pico_model: Path) -> Iterator[FakeOllama]:
    """An Ollama beside the run, chosen by its plan, that counts tokens as the model's tokenizer does."""
    chat_run.write_plan(changed(chat_run.plan(), {"chat.backend": "auto"}))
    prompts = ChatPrompts(pico_model)
    with FakeOllama(answer=lambda messages: [GOOD], count=lambda text: len(prompts.encode(text))) as fake:
        monkeypatch.setenv("OLLAMA_HOST", fake.address)
        yield fake


@pytest.fixture
def backend(pico_model: Path, chat_file: Path) -> Iterator[EmbeddedBackend]:
    opened = EmbeddedBackend(chat_file, ChatPrompts(pico_model), 128)
    yield opened
    opened.close()


def ask_all(run: RunDirectory, cancel: CancelToken | None = None) -> list[Event]:
    heard: list[Event] = []
    chat.run(run.plan(), StepContext(run, "chat", heard.append, cancel or CancelToken()))
    return heard


def transcript(run: RunDirectory) -> list[dict[str, Any]]:
    return read_answers(run.step_folder("chat") / "transcript.jsonl")


def verdicts(events: list[Event]) -> dict[str, Verdict]:
    return {event.name: event for event in events if isinstance(event, Verdict)}


def say(id: str, **more: Any) -> str:
    return json.dumps({"do": "say", "id": id, "messages": ASK, "sampling": {"max_tokens": 16}, **more})


def serve(run: RunDirectory, *lines: str) -> list[Event]:
    """What the child says to these lines, close included."""
    heard: list[Event] = []
    waiting = threading.Event()

    def lines_in() -> Iterator[str]:
        yield from [*lines, json.dumps({"do": "close"})]
        waiting.wait(60)

    child.serve(run, "aegis", lines_in(), heard.append)
    waiting.set()
    return heard


def test_llama_cpp_sees_the_tokens_of_the_tokenizer(backend: EmbeddedBackend, pico_model: Path) -> None:
    prompts = ChatPrompts(pico_model)
    answer = backend.answer(ASK, SAMPLING, lambda text: None, lambda: False)
    assert answer.n_prompt_tokens == answer.n_expected_prompt_tokens == len(prompts.token_ids(ASK))
    assert prompts.token_ids(ASK)[0] == prompts.encode("<|im_start|>")[0]


def test_an_answer_streams_and_is_the_same_for_the_same_seed(backend: EmbeddedBackend) -> None:
    pieces: list[str] = []
    first = backend.answer(ASK, SAMPLING, pieces.append, lambda: False)
    second = backend.answer(ASK, SAMPLING, lambda text: None, lambda: False)
    assert "".join(pieces) == first.text == second.text
    assert len(pieces) > 1 and 1 < first.n_tokens <= 12


def test_an_answer_stops_between_tokens(backend: EmbeddedBackend) -> None:
    pieces: list[str] = []
    answer = backend.answer(ASK, SAMPLING, pieces.append, lambda: len(pieces) >= 3)
    assert (answer.reason, len(pieces)) == ("cancelled", 3)


def test_a_control_token_ends_the_answer_and_is_not_shown(backend: EmbeddedBackend, pico_model: Path) -> None:
    ids = ChatPrompts(pico_model).token_ids(ASK)
    marker = ChatPrompts(pico_model).encode("<|im_start|>")[0]
    request = backend._request(ids, SAMPLING, from_cache=False) | {"logit_bias": [[marker, 100.0]]}
    chunks: list[dict[str, Any]] = []
    backend._llama.stream_completion(request, lambda chunk: chunks.append(chunk["choices"][0]) is None)
    assert "".join(chunk["text"] for chunk in chunks) == "" and chunks[-1]["finish_reason"] == "stop"


def test_an_error_in_a_listener_is_not_swallowed(backend: EmbeddedBackend) -> None:
    def fail(text: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        backend.answer(ASK, SAMPLING, fail, lambda: False)


@pytest.mark.parametrize("problem", ["llama.cpp refused the request: it fell over.", ""])
def test_an_answer_that_breaks_off_keeps_what_came(
    backend: EmbeddedBackend, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    stream = backend._llama.stream_completion

    def breaking(request: dict[str, Any], on_chunk: Any) -> None:
        n_left = iter((True, True, False))
        stream(request, lambda chunk: on_chunk(chunk) and next(n_left))
        if problem:
            raise UserError(problem)

    monkeypatch.setattr(backend._llama, "stream_completion", breaking)
    pieces: list[str] = []
    answer = backend.answer(ASK, SAMPLING, pieces.append, lambda: False)
    assert (answer.text, answer.reason) == ("".join(pieces), "error") and pieces
    assert answer.error == (problem or "llama.cpp ended in the middle of the answer.")


def test_a_conversation_beyond_the_context_is_refused(backend: EmbeddedBackend) -> None:
    with pytest.raises(UserError, match="longer than the 128"):
        backend.answer([{"role": "user", "content": "waves " * 200}], SAMPLING, lambda text: None, lambda: False)


def test_random_weights_are_judged_gibberish(chat_run: RunDirectory) -> None:
    events = ask_all(chat_run)
    found = verdicts(events)
    assert found["answer_meaningful"].status == "fail"
    assert found["ollama_loaded"].status == "skipped"
    rows = transcript(chat_run)
    assert [row["question"] for row in rows] == [q.question for q in load_questions("en")[:3]]
    assert {row["backend"] for row in rows} == {"embedded"}
    assert any(isinstance(event, Token) for event in events)
    summed = read_json(chat_run.step_folder("chat") / "chat.json")
    assert summed["backend"] == "embedded" and summed["prompts"]["status"] == "pass"
    assert "conversations tokenised; 3 of 3 answers" in summed["prompts"]["measured"]


def test_good_answers_pass_and_the_loaded_model_is_found(chat_run: RunDirectory, chat_server: FakeOllama) -> None:
    chat_run.write_plan(changed(chat_run.plan(), {"chat.n_questions": 1}))
    found = verdicts(ask_all(chat_run))
    assert found["answer_meaningful"].status == "pass"
    assert found["ollama_loaded"].status == "pass"
    row = transcript(chat_run)[0]
    assert (row["backend"], row["answer"], row["verdict"]["passed"]) == ("ollama", GOOD, True)
    prompts = read_json(chat_run.step_folder("chat") / "chat.json")["prompts"]
    assert prompts["status"] == "pass" and "conversations rendered; 1 of 1 answers" in prompts["measured"]


def test_no_question_is_put_to_a_server_that_makes_other_prompts(
    chat_run: RunDirectory, chat_server: FakeOllama
) -> None:
    chat_server.count = lambda text: 7
    chat_run.write_plan(changed(chat_run.plan(), {"chat.backend": "ollama"}))
    with pytest.raises(UserError, match="reads 7 tokens where the tokenizer counts"):
        ask_all(chat_run)
    assert not (chat_run.step_folder("chat") / "transcript.jsonl").exists()
    assert len(chat_server.chats) == 1


def test_a_file_that_llama_cpp_reads_otherwise_is_told_and_marked(
    chat_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenize = LlamaServer.tokenize
    monkeypatch.setattr(LlamaServer, "tokenize", lambda self, text: [*tokenize(self, text), 1])
    chat_run.write_plan(changed(chat_run.plan(), {"chat.n_questions": 1}))
    events = ask_all(chat_run)
    assert any(isinstance(e, Log) and "otherwise than the tokenizer" in e.text for e in events)
    prompts = read_json(chat_run.step_folder("chat") / "chat.json")["prompts"]
    assert prompts["status"] == "fail" and "is read as" in prompts["measured"]


def test_a_model_that_another_one_replaced_does_not_count_as_loaded(
    chat_run: RunDirectory, chat_server: FakeOllama
) -> None:
    def swap(messages: list[dict[str, Any]]) -> list[str]:
        chat_server.models["aegis:latest"].digest = "of another model"
        return [GOOD]

    chat_server.answer = swap
    assert verdicts(ask_all(chat_run))["ollama_loaded"].status == "fail"


def test_half_of_the_answers_must_be_meaningful(chat_run: RunDirectory, chat_server: FakeOllama) -> None:
    first = load_questions("en")[0].question
    chat_server.answer = lambda messages: [GOOD if messages[-1]["content"] == first else "No idea."]
    verdict = verdicts(ask_all(chat_run))["answer_meaningful"]
    assert (verdict.status, verdict.measured[:6]) == ("fail", "1 of 3")
    assert verdict.expected.startswith("at least 2 of 3")


def test_answers_already_given_are_not_asked_for_again(chat_run: RunDirectory, chat_server: FakeOllama) -> None:
    cancel = CancelToken()

    def answer_then_stop(messages: list[dict[str, Any]]) -> list[str]:
        if len(chat_server.chats) == 3:  # the first one only counts tokens
            cancel.cancel()
        return [GOOD]

    chat_server.answer = answer_then_stop
    with pytest.raises(Cancelled):
        ask_all(chat_run, cancel)
    kept = transcript(chat_run)
    with (chat_run.step_folder("chat") / "transcript.jsonl").open("ab") as file:
        file.write(b'{"question": "cut o')
    chat_server.chats.clear()
    events = ask_all(chat_run)
    assert len(kept) == 1 and kept[0].items() <= (transcript(chat_run)[0] | {"verdict": kept[0]["verdict"]}).items()
    assert len(transcript(chat_run)) == 3 and len(chat_server.chats) == 3
    assert [e.done for e in events if isinstance(e, Progress) and e.unit == "answers"] == [1, 2, 3]


def test_an_answer_that_breaks_off_fails_the_step(chat_run: RunDirectory, chat_server: FakeOllama) -> None:
    def cut_from_now_on(messages: list[dict[str, Any]]) -> list[str]:
        chat_server.faults["chat"] = "cut"
        return [GOOD]

    chat_server.answer = cut_from_now_on
    with pytest.raises(UserError, match="broke off"):
        ask_all(chat_run)
    assert not (chat_run.step_folder("chat") / "transcript.jsonl").exists()


def test_an_old_ollama_is_passed_over_and_named_when_demanded(chat_run: RunDirectory, chat_server: FakeOllama) -> None:
    chat_server.version = "0.3.1"
    opened = open_backend(chat_run, chat_run.plan())
    opened.close()
    assert opened.name == "embedded"
    with pytest.raises(UserError, match=r"0\.3\.1 is too old"):
        open_backend(chat_run, changed(chat_run.plan(), {"chat.backend": "ollama"}))


def test_without_an_export_there_is_nothing_to_talk_to(run: RunDirectory) -> None:
    with pytest.raises(UserError, match="no exported model"):
        open_backend(run, run.plan())


def test_the_child_says_it_is_ready_and_answers_in_order(chat_run: RunDirectory) -> None:
    events = serve(chat_run, say("1"), say("2"))
    ready = next(i for i, e in enumerate(events) if isinstance(e, Log) and e.template == child.READY)
    finished = [e for e in events if isinstance(e, AnswerFinished)]
    assert not any(isinstance(e, Token | AnswerFinished) for e in events[:ready])
    assert [(e.id, e.error) for e in finished] == [("1", ""), ("2", "")]
    assert all(e.reason in ("stop", "length") and 0 < e.n_tokens <= 16 for e in finished)
    assert finished[0].n_prompt_tokens == finished[1].n_prompt_tokens > 3, "how much of the context is used"
    assert all(0 < (e.first_token_seconds or 0) <= e.seconds for e in finished)
    assert {e.id for e in events if isinstance(e, Token)} == {"1", "2"}
    assert all(e.stage == "chat" and e.at > 0 for e in events)


def test_the_child_goes_on_after_a_message_it_cannot_use(chat_run: RunDirectory) -> None:
    bad = [say("1", messages=[]), say("2", sampling={"temperature": 99}), "{not json", '"say"', say("3")]
    events = serve(chat_run, *bad)
    finished = {e.id: e for e in events if isinstance(e, AnswerFinished)}
    assert finished["1"].reason == finished["2"].reason == "error"
    assert "temperature" in finished["2"].error
    assert finished["3"].reason in ("stop", "length")
    assert sum(isinstance(e, Log) and e.level == "warning" for e in events) == 2


def test_stop_is_heard_in_the_middle_of_an_answer(chat_run: RunDirectory) -> None:
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    heard: list[Event] = []

    def emit(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Token):
            lines.put(json.dumps({"do": "stop", "id": "1"}))
            time.sleep(0.05)
        if isinstance(event, AnswerFinished):
            lines.put(None)

    chat_run.write_plan(changed(chat_run.plan(), {"chat.num_ctx": 4096}))
    lines.put(say("1", sampling={"max_tokens": 2000}))
    child.serve(chat_run, "aegis", iter(lines.get, None), emit)
    finished = [e for e in heard if isinstance(e, AnswerFinished)]
    assert [(e.id, e.reason) for e in finished] == [("1", "cancelled")]
    assert finished[0].n_tokens < 100


def test_the_end_of_the_input_ends_the_child_at_once(chat_run: RunDirectory) -> None:
    heard: list[Event] = []
    child.serve(chat_run, "aegis", iter([say("1", sampling={"max_tokens": 2000})]), heard.append)
    assert all(e.reason == "cancelled" for e in heard if isinstance(e, AnswerFinished))


def test_the_child_refuses_while_a_step_works_on_the_run(chat_run: RunDirectory) -> None:
    heard: list[Event] = []
    with chat_run.lock(), pytest.raises(UserError, match="working right now"):
        child.serve(chat_run, "aegis", iter([say("1")]), heard.append)
    assert [type(event) for event in heard] == [StepFailed]


def test_a_child_that_is_open_answers_nothing_while_a_step_works_and_goes_on_afterwards(
    chat_run: RunDirectory,
) -> None:
    heard: queue.Queue[Event] = queue.Queue()
    ends: list[AnswerFinished] = []

    def until_answered() -> None:
        while not isinstance(event := heard.get(timeout=120), AnswerFinished):
            pass
        ends.append(event)

    def lines_in() -> Iterator[str]:
        yield say("1")
        until_answered()
        with chat_run.lock():
            yield say("2")
            until_answered()
        yield say("3")
        until_answered()
        yield json.dumps({"do": "close"})

    child.serve(chat_run, "aegis", lines_in(), heard.put)
    assert [(end.id, end.reason == "error") for end in ends] == [("1", False), ("2", True), ("3", False)]
    assert "A step of this run is working" in ends[1].error


def test_the_child_talks_to_the_base_model_as_well(chat_run: RunDirectory) -> None:
    heard: list[Event] = []
    waiting = threading.Event()

    def lines_in() -> Iterator[str]:
        yield from [say("1"), json.dumps({"do": "close"})]
        waiting.wait(60)

    child.serve(chat_run, "base", lines_in(), heard.append)
    waiting.set()
    assert any(isinstance(e, Progress) and e.phase == "convert" for e in heard)
    assert any(isinstance(e, AnswerFinished) and not e.error for e in heard)


def test_the_converted_base_outlives_the_chat_step_and_serves_every_run(
    chat_run: RunDirectory, tmp_path: Path, pico_model: Path
) -> None:
    other = RunDirectory.create(tmp_path / "other", Plan())
    write_base(other, identity_of(pico_model))
    path = ensure_base_gguf(chat_run, CancelToken(), lambda event: None)
    assert not path.is_relative_to(chat_run.path)
    heard: list[Event] = []
    assert ensure_base_gguf(other, CancelToken(), heard.append) == path
    assert not heard


def test_the_base_is_converted_by_one_program_at_a_time_and_waiting_can_be_stopped(
    chat_run: RunDirectory, tmp_path: Path
) -> None:
    path = tmp_path / "cache" / "base-gguf" / f"{'0' * 64}-F16.gguf"
    path.parent.mkdir(parents=True)
    cancel = CancelToken()
    with FileLock(path.with_name(path.name + ".lock")), pytest.raises(Cancelled):
        threading.Timer(0.3, cancel.cancel).start()
        ensure_base_gguf(chat_run, cancel, lambda event: None)
    assert not path.exists()


def test_a_disk_too_small_for_the_converted_base_is_told(
    chat_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"only 0\.00 GB are free"):
        ensure_base_gguf(chat_run, CancelToken(), lambda event: None)
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.suffix in (".gguf", ".part")]


def test_the_terminal_converses_until_an_empty_line_and_keeps_what_was_said(
    chat_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = iter(["時間?", "waves?", ""])
    console = Console(file=io.StringIO(), width=100)
    monkeypatch.setattr(console, "input", lambda prompt: next(typed))
    terminal.talk(chat_run, ("aegis",), console)
    assert console.file.getvalue().count("of 256 tokens of context") == 2  # type: ignore[attr-defined]
    (kept,) = history.conversations(chat_run)
    assert [row["content"] for row in kept.messages[::2]] == ["時間?", "waves?"]
    assert all(row["first_token_seconds"] > 0 for row in kept.messages[1::2])


def test_a_first_question_is_read_whole_and_only_a_talk_that_goes_on_from_the_cache(
    backend: EmbeddedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the cache the same prompt is summed up in other pieces, and an interview cut off would end otherwise."""
    asked: list[bool] = []

    def fake_stream(request: dict[str, Any], receive: Callable[[dict[str, Any]], bool]) -> None:
        asked.append(request["cache_prompt"])
        usage = {"completion_tokens": 1, "prompt_tokens": 1}
        receive({"choices": [{"text": "yes", "finish_reason": "stop"}], "usage": usage})

    monkeypatch.setattr(backend._llama, "stream_completion", fake_stream)
    first: list[Message] = [{"role": "system", "content": "Be brief."}, *ASK]
    for talk in (ASK, first, [*ASK, {"role": "assistant", "content": "yes"}, *ASK]):
        backend.answer(talk, Sampling(0.7, 0.9, 40, 1.1, 8, 0), lambda text: None, lambda: False)
    assert asked == [False, False, True]
