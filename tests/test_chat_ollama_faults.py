"""Whatever goes wrong at whichever request: one clear sentence with advice, and afterwards all goes on as before."""

import threading
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
from chat_parts import small_gguf
from fake_ollama import FakeOllama

from aegis_core.cancel import Cancelled, CancelToken
from aegis_core.chat import ollama
from aegis_core.chat.backend import Answer, Sampling
from aegis_core.chat.ollama import OllamaClient
from aegis_core.chat.ollama_made import is_ours, known
from aegis_core.chat.ollama_model import OllamaBackend, ensure_model
from aegis_core.chat.prompt import ChatPrompts
from aegis_core.chat.session import _compare_once
from aegis_core.events import Event, Log
from aegis_core.failures import UserError
from aegis_core.plan import ChatPlan

ASK = [{"role": "user", "content": "Why?"}]
SAMPLING = Sampling(0.7, 0.9, 40, 1.1, 50, 0)
REQUESTS = ("tags", "HEAD blobs", "POST blobs", "create", "show", "render", "chat", "ps", "generate", "delete")
FAULTS = ("500", "error line", "cut", "malformed", "html", "gateway")
BODYLESS = ("HEAD blobs", "POST blobs", "delete")
NO_BODY = {(request, fault) for request in BODYLESS for fault in ("error line", "malformed")}
"""There is nothing in these answers that could be spoilt; deleting is believed once the server says yes."""
BELIEVED = NO_BODY | {("delete", "html"), ("generate", "malformed"), ("generate", "error line"), ("generate", "html")}
"""Whether a model has been unloaded is asked of the list of loaded ones."""


@pytest.fixture(scope="module")
def prompts(pico_model: Path) -> ChatPrompts:
    return ChatPrompts(pico_model)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prompts: ChatPrompts) -> Iterator[FakeOllama]:
    monkeypatch.setenv("AEGIS_CACHE", str(tmp_path / "cache"))
    with FakeOllama(count=lambda text: len(prompts.encode(text)), slow_seconds=0.05) as fake:
        monkeypatch.setenv("OLLAMA_HOST", fake.address)
        yield fake


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return small_gguf(tmp_path / "model.gguf", add_bos=False)


def whole_way(prompts: ChatPrompts, file: Path, cancel: CancelToken | None = None) -> Answer:
    """Everything the app asks of a server, in its order."""
    cancel = cancel or CancelToken()
    with OllamaClient() as client:
        made = ensure_model(client, "aegis", file, prompts, ChatPlan(), "mit", cancel, lambda *_: None)
        backend = OllamaBackend(client, made, prompts, ChatPlan())
        _compare_once(backend, "0.14.2", cancel, lambda event: None)
        answer = backend.answer(ASK, SAMPLING, lambda text: None, lambda: cancel.cancelled)
        assert client.is_loaded("aegis", made.digest)
        client.unload("aegis")
        assert client.loaded() == []
        return answer


def tidy(client: OllamaClient) -> None:
    client.delete("aegis")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("request_", REQUESTS)
def test_a_fault_is_one_clear_sentence_and_nothing_is_lost(
    server: FakeOllama, prompts: ChatPrompts, file: Path, request_: str, fault: str
) -> None:
    if (request_, fault) in BELIEVED:
        pytest.skip("nothing to notice")
    server.faults[request_] = fault
    with OllamaClient() as client, pytest.raises(UserError) as refusal:
        whole_way(prompts, file)
        tidy(client)
    reason, advice = refusal.value.reason, refusal.value.advice
    assert reason.endswith(".") and advice.endswith(".") and "\n" not in reason and len(reason) < 300
    assert "<" not in reason and "{" not in reason.split("(")[0], "no raw text of a page or a protocol"
    server.faults.clear()
    server.requests.clear()
    held = bool(server.blobs)
    assert held or request_ in ("tags", "HEAD blobs", "POST blobs", "delete")
    assert whole_way(prompts, file).text == "It depends."
    uploads = [request for request in server.requests if request[0] == "POST" and "/blobs/" in request[1]]
    assert len(uploads) == (0 if held else 1), "what arrived before the fault is not sent again"
    with OllamaClient() as client:
        assert is_ours(client.base, "aegis", client.model_digest("aegis"))


def test_a_slow_server_is_waited_for_at_every_request(server: FakeOllama, prompts: ChatPrompts, file: Path) -> None:
    server.faults = dict.fromkeys(("tags", "blobs", "create", "show", "chat", "ps", "generate"), "slow")
    assert whole_way(prompts, file).text == "It depends."


@pytest.mark.parametrize("request_", ["create", "chat"])
def test_a_stop_is_heard_while_a_stream_is_silent(
    server: FakeOllama, prompts: ChatPrompts, file: Path, request_: str
) -> None:
    server.faults[request_] = "silent"
    cancel = CancelToken()

    def stop_when_it_is_silent() -> None:
        assert server.stalled.wait(60)
        cancel.cancel()

    threading.Thread(target=stop_when_it_is_silent, daemon=True).start()
    with pytest.raises(Cancelled):
        whole_way(prompts, file, cancel)
    assert server.gone.wait(2.5), "it is hung up on, and not waited for"
    server.faults.clear()
    assert whole_way(prompts, file).text == "It depends."


def test_what_the_llama_cpp_behind_it_says_is_told_in_words(
    server: FakeOllama, prompts: ChatPrompts, file: Path
) -> None:
    whole_way(prompts, file)
    row = {"model": "aegis", "messages": ASK, "truncate": False, "options": {"num_ctx": 2}}
    with OllamaClient() as client, pytest.raises(UserError) as refusal:
        list(client.chat(row, lambda: False))
    assert "exceeds the available context size (2 tokens), try increasing it." in refusal.value.reason
    assert "{" not in refusal.value.reason


def test_a_line_with_a_message_that_is_none_is_an_error(
    server: FakeOllama, prompts: ChatPrompts, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_way(prompts, file)
    lines = [{"message": {"content": "It "}, "done": False}, {"message": "depends", "done": False}]
    monkeypatch.setattr(OllamaClient, "_lines", lambda *_: iter(lines))
    with OllamaClient() as client, pytest.raises(UserError, match="cannot be read"):
        list(client.chat({}, lambda: False))


def test_a_model_counts_as_unloaded_when_the_server_lists_it_no_more(
    server: FakeOllama, prompts: ChatPrompts, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_way(prompts, file)
    monkeypatch.setattr(ollama, "_LOOK_EVERY_SECONDS", 0.01)
    server.loaded.add("aegis:latest")
    server.lingers = 3
    with OllamaClient() as client:
        client.unload("aegis")
        assert client.loaded() == [] and server.leaving == {}
        server.loaded.add("aegis:latest")
        server.lingers = 10**6
        monkeypatch.setattr(ollama, "UNLOAD_SECONDS", 0.05)
        with pytest.raises(UserError, match="still holds it"):
            client.unload("aegis")


def test_prompts_are_compared_once_for_each_version_of_the_server(
    server: FakeOllama, prompts: ChatPrompts, file: Path
) -> None:
    whole_way(prompts, file)
    assert known(server.address, "aegis")["compared"] == "0.14.2"
    server.chats.clear()
    whole_way(prompts, file)
    assert len(server.chats) == 1, "the answer alone"
    server.count = lambda text: 7
    with OllamaClient() as client, pytest.raises(UserError, match="reads 7 tokens where the tokenizer counts"):
        made = ensure_model(client, "aegis", file, prompts, ChatPlan(), "mit", CancelToken(), lambda *_: None)
        _compare_once(OllamaBackend(client, made, prompts, ChatPlan()), "0.15.0", CancelToken(), lambda event: None)
    assert known(server.address, "aegis")["compared"] == "0.14.2"


def test_an_answer_to_another_number_of_tokens_is_told_whoever_asked(
    server: FakeOllama, prompts: ChatPrompts, file: Path
) -> None:
    whole_way(prompts, file)
    server.count = lambda text: 7
    heard: list[Event] = []
    with OllamaClient() as client:
        made = ensure_model(client, "aegis", file, prompts, ChatPlan(), "mit", CancelToken(), lambda *_: None)
        answer = OllamaBackend(client, made, prompts, ChatPlan(), heard.append).answer(
            ASK, SAMPLING, lambda text: None, lambda: False
        )
    assert (answer.text, answer.n_prompt_tokens) == ("It depends.", 7)
    (told,) = [event for event in heard if isinstance(event, Log)]
    assert told.level == "warning" and "ollama read 7 tokens where the tokenizer counts" in told.text


def test_a_model_that_cannot_be_loaded_is_told_in_one_sentence_with_a_way_out(
    server: FakeOllama, prompts: ChatPrompts, file: Path
) -> None:
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_tokenizer_pre("of-tomorrow")
    writer.add_tensor("token_embd.weight", np.zeros((2, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UserError, match="unknown pre-tokenizer type: 'of-tomorrow'") as refusal:
        whole_way(prompts, file)
    assert "embedded" in refusal.value.advice


def test_a_server_that_rewrites_the_file_is_not_sent_it_again(
    server: FakeOllama, prompts: ChatPrompts, file: Path
) -> None:
    whole_way(prompts, file)
    server.models["aegis:latest"].file_digest = "0" * 64  # its own digest of what it made of the file
    server.requests.clear()
    whole_way(prompts, file)
    assert not [path for _, path in server.requests if path == "/api/create" or "/blobs/" in path]
