"""The client and the backend against a server that speaks and refuses like Ollama."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
from fake_ollama import FakeOllama, Model

from aegis_core.cancel import Cancelled, CancelToken
from aegis_core.chat import ollama, ollama_model, ollama_room
from aegis_core.chat.backend import Sampling
from aegis_core.chat.ollama import InstalledModel, LoadedModel, OllamaClient, blob_digest
from aegis_core.chat.ollama_model import MadeModel, OllamaBackend, ensure_model
from aegis_core.chat.prompt import ChatPrompts
from aegis_core.failures import UserError
from aegis_core.plan import ChatPlan

ASK = [{"role": "user", "content": "Why?"}]
SAMPLING = Sampling(0.7, 0.9, 40, 1.1, 50, 0)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeOllama]:
    monkeypatch.setenv("AEGIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with FakeOllama() as fake:
        monkeypatch.setenv("OLLAMA_HOST", fake.address)
        yield fake


@pytest.fixture(scope="module")
def chat_prompts(pico_model: Path) -> ChatPrompts:
    return ChatPrompts(pico_model)


@pytest.fixture
def chat_gguf(tmp_path: Path) -> Path:
    return small_gguf(tmp_path / "モデル F16.gguf")


def small_gguf(path: Path, add_bos: bool = False) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_add_bos_token(add_bos)
    writer.add_tensor("token_embd.weight", np.zeros((2, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def make(
    client: OllamaClient,
    path: Path,
    prompts: ChatPrompts,
    seen: list[str] | None = None,
    plan: ChatPlan | None = None,
) -> MadeModel:
    heard = [] if seen is None else seen
    cancel = CancelToken()
    return ensure_model(
        client, "aegis", path, prompts, plan or ChatPlan(), "apache-2.0", cancel, lambda what, *_: heard.append(what)
    )


def talk(fake: FakeOllama, prompts: ChatPrompts, path: Path) -> OllamaBackend:
    client = OllamaClient(fake.address)
    return OllamaBackend(client, make(client, path, prompts), prompts, ChatPlan())


def test_a_model_is_made_of_the_file_with_template_stops_and_sampling(
    server: FakeOllama, chat_prompts: ChatPrompts, chat_gguf: Path
) -> None:
    seen: list[str] = []
    with OllamaClient() as client:
        made = make(client, chat_gguf, chat_prompts, seen)
        request = server.models["aegis:latest"].request
        assert server.blobs[made.file_digest] == chat_gguf.read_bytes()
        assert made.digest == client.model_digest("AEGIS")
    assert request["parameters"]["stop"] == list(chat_prompts.stops)
    assert request["parameters"]["temperature"] == 0.7 and request["license"] == "apache-2.0"
    assert seen.index("hash") < seen.index("upload") < seen.index("parsing GGUF") < seen.index("success")


def test_the_server_renders_what_the_tokenizer_renders(
    server: FakeOllama, chat_prompts: ChatPrompts, chat_gguf: Path
) -> None:
    server.count = lambda text: len(chat_prompts.encode(text))
    answer = talk(server, chat_prompts, chat_gguf).answer(ASK, SAMPLING, lambda text: None, lambda: False)
    assert server.rendered("aegis", ASK) == chat_prompts.text(ASK)
    assert answer.n_prompt_tokens == answer.n_expected_prompt_tokens > 0


def test_a_model_made_before_is_neither_uploaded_nor_made_again(
    server: FakeOllama, chat_prompts: ChatPrompts, chat_gguf: Path
) -> None:
    with OllamaClient() as client:
        first = make(client, chat_gguf, chat_prompts)
        server.requests.clear()
        assert make(client, chat_gguf, chat_prompts) == first
    assert server.requests == [("GET", "/api/tags")]


def test_a_changed_file_replaces_the_model_that_aegis_made(
    server: FakeOllama, chat_prompts: ChatPrompts, chat_gguf: Path, tmp_path: Path
) -> None:
    with OllamaClient() as client:
        first = make(client, chat_gguf, chat_prompts)
        second = make(client, small_gguf(tmp_path / "other.gguf", add_bos=True), chat_prompts)
    assert first.digest != second.digest and server.models["aegis:latest"].file_digest == second.file_digest


def test_somebody_elses_model_of_that_name_is_left_alone(
    server: FakeOllama, chat_prompts: ChatPrompts, chat_gguf: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with OllamaClient() as client:
        first = make(client, chat_gguf, chat_prompts)
        monkeypatch.setenv("AEGIS_CACHE", str(tmp_path / "another user's cache"))
        with pytest.raises(UserError, match="did not make"):
            make(client, small_gguf(tmp_path / "other.gguf", add_bos=True), chat_prompts)
        assert client.model_digest("aegis") == first.digest


def test_a_template_that_the_server_swapped_is_noticed(
    server: FakeOllama, chat_prompts: ChatPrompts, chat_gguf: Path
) -> None:
    server.faults["show"] = "swapped"
    with OllamaClient() as client, pytest.raises(UserError, match="replaced the chat template") as refusal:
        make(client, chat_gguf, chat_prompts)
    assert "{{ .Prompt }}" in refusal.value.reason and "range .Messages" in refusal.value.reason
    assert server.models == {}
    server.faults.clear()
    with OllamaClient() as client:
        make(client, chat_gguf, chat_prompts)


def test_somebody_elses_model_is_replaced_once_the_user_agreed_to_that_very_name(
    server: FakeOllama, chat_prompts: ChatPrompts, chat_gguf: Path
) -> None:
    server.models["aegis:latest"] = Model("sha256:0", "a stranger's", "", {})
    with OllamaClient() as client:
        with pytest.raises(UserError, match="did not make") as refusal:
            make(client, chat_gguf, chat_prompts, plan=ChatPlan(replace_model="llama3"))
        assert refusal.value.changes == {"chat.replace_model": "aegis"}
        assert "chat.replace_model=aegis" in refusal.value.advice
        assert ("POST", "/api/create") not in server.requests
        made = make(client, chat_gguf, chat_prompts, plan=ChatPlan(replace_model="aegis:latest"))
        assert client.model_digest("aegis") == made.digest


def test_a_system_text_is_the_models_own_and_is_counted_where_a_conversation_has_none(
    server: FakeOllama, chat_prompts: ChatPrompts, chat_gguf: Path
) -> None:
    server.count = lambda text: len(chat_prompts.encode(text))
    plan = ChatPlan(system="簡潔に。")
    client = OllamaClient(server.address)
    backend = OllamaBackend(client, make(client, chat_gguf, chat_prompts, plan=plan), chat_prompts, plan)
    assert server.models["aegis:latest"].request["system"] == "簡潔に。"
    answer = backend.answer(ASK, SAMPLING, lambda text: None, lambda: False)
    assert answer.n_prompt_tokens == answer.n_expected_prompt_tokens
    told = [{"role": "system", "content": "簡潔に。"}, *ASK]
    assert answer.n_expected_prompt_tokens == len(chat_prompts.token_ids(told))
    assert backend.check_prompts(CancelToken()).problem == ""


def test_a_changed_setting_makes_the_model_anew_without_sending_the_file_again(
    server: FakeOllama, chat_prompts: ChatPrompts, chat_gguf: Path
) -> None:
    with OllamaClient() as client:
        make(client, chat_gguf, chat_prompts)
        server.requests.clear()
        make(client, chat_gguf, chat_prompts, plan=ChatPlan(temperature=0.1))
    assert [path for method, path in server.requests if method == "POST"] == ["/api/create", "/api/show"]
    assert server.models["aegis:latest"].request["parameters"]["temperature"] == 0.1


def test_a_disk_too_small_for_the_copy_is_told_before_anything_is_sent(
    server: FakeOllama, chat_prompts: ChatPrompts, chat_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ollama_room, "disk_free_bytes", lambda path: 0)
    with OllamaClient() as client, pytest.raises(UserError, match="Ollama's copy of the model needs"):
        make(client, chat_gguf, chat_prompts)
    assert server.blobs == {} and {method for method, _ in server.requests} == {"GET", "HEAD"}


class Killed(BaseException):
    pass


def test_a_model_whose_making_was_cut_off_is_known_as_ours(
    server: FakeOllama, chat_prompts: ChatPrompts, chat_gguf: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def killed(*arguments: object) -> None:
        raise Killed

    with OllamaClient() as client:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(ollama_model, "_check_template", killed)
            make(client, chat_gguf, chat_prompts)
        assert server.models
        made = make(client, small_gguf(tmp_path / "other.gguf", add_bos=True), chat_prompts)
        assert client.model_digest("aegis") == made.digest


def test_a_strangers_model_is_left_alone_even_if_we_once_meant_to_make_one_of_that_name(
    server: FakeOllama, chat_prompts: ChatPrompts, chat_gguf: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ours = tmp_path / "cache"
    with OllamaClient() as client:
        server.faults["create"] = "500"
        with pytest.raises(UserError):
            make(client, chat_gguf, chat_prompts)
        server.faults.clear()
        monkeypatch.setenv("AEGIS_CACHE", str(tmp_path / "a stranger's"))
        strangers = make(client, small_gguf(tmp_path / "other.gguf", add_bos=True), chat_prompts)
        monkeypatch.setenv("AEGIS_CACHE", str(ours))
        with pytest.raises(UserError, match="did not make"):
            make(client, chat_gguf, chat_prompts)
        assert client.model_digest("aegis") == strangers.digest


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ADDRESS": 3}', '{"ADDRESS": {"aegis": 3}}'])
def test_a_damaged_memory_of_models_counts_as_empty(
    server: FakeOllama, chat_prompts: ChatPrompts, chat_gguf: Path, tmp_path: Path, text: str
) -> None:
    memory = tmp_path / "cache" / "ollama-models.json"
    memory.parent.mkdir()
    memory.write_text(text.replace("ADDRESS", server.address), encoding="utf-8")
    with OllamaClient() as client:
        first = make(client, chat_gguf, chat_prompts)
        assert make(client, chat_gguf, chat_prompts) == first


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("error line", "an error was encountered"),
        ("malformed", "cannot be read"),
        ("cut", "failed"),
        ("ends early", "before the model was made"),
        ("500", "missing tensor"),
    ],
)
def test_a_create_that_fails_midway_is_an_error(
    server: FakeOllama, chat_prompts: ChatPrompts, chat_gguf: Path, fault: str, sentence: str
) -> None:
    server.faults["create"] = fault
    with OllamaClient() as client, pytest.raises(UserError, match=sentence):
        make(client, chat_gguf, chat_prompts)


def test_what_ollama_refuses_is_told_in_its_words(
    server: FakeOllama, chat_prompts: ChatPrompts, tmp_path: Path
) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"not a model")
    cancel = CancelToken()
    with OllamaClient() as client:
        digest = blob_digest(other, cancel, lambda *_: None)
        client.upload(other, digest, cancel, lambda *_: None)
        for request, sentence in [
            ({"model": "aegis", "files": {"m.gguf": digest}}, "not in GGUF format"),
            ({"model": "aegis"}, "neither 'from' or 'files'"),
            ({"model": "?", "files": {"m.gguf": digest}}, "invalid model name"),
        ]:
            with pytest.raises(UserError, match=sentence):
                client.create(request, cancel, lambda row: None)
        with pytest.raises(UserError, match="digest mismatch"):
            client.upload(other, "sha256:" + "0" * 64, cancel, lambda *_: None)


def test_a_cancelled_upload_leaves_no_blob(server: FakeOllama, tmp_path: Path) -> None:
    big = tmp_path / "big.gguf"
    big.write_bytes(b"GGUF" + bytes(5 << 20))
    cancel = CancelToken()
    digest = blob_digest(big, cancel, lambda *_: None)

    def stop_at_half(what: str, done: int, total: int) -> None:
        if done > total / 2:
            cancel.cancel()

    with OllamaClient() as client, pytest.raises(Cancelled):
        client.upload(big, digest, cancel, stop_at_half)
    assert digest not in server.blobs


def test_an_upload_is_cancelled_at_once_while_the_server_takes_nothing(server: FakeOllama, tmp_path: Path) -> None:
    big = tmp_path / "big.gguf"
    big.write_bytes(b"GGUF" + bytes(24 << 20))  # more than the buffers on the way hold
    cancel = CancelToken()
    server.faults["blobs"] = "stall"

    def stop_when_it_hangs() -> None:
        assert server.stalled.wait(30)
        time.sleep(0.3)
        cancel.cancel()

    threading.Thread(target=stop_when_it_hangs, daemon=True).start()
    with OllamaClient() as client, pytest.raises(Cancelled):
        client.upload(big, f"sha256:{'0' * 64}", cancel, lambda *_: None)
    for thread in threading.enumerate():
        if thread.name == "ollama":
            thread.join(10)
            assert not thread.is_alive(), "it still tries to send, although nobody waits for it"
    server.patience.set()
    assert server.gone.wait(30)  # the connection was cut: the server does not take the rest for a whole file
    assert server.blobs == {}


def test_a_pause_holds_the_upload_and_it_goes_on(server: FakeOllama, tmp_path: Path) -> None:
    big = tmp_path / "big.gguf"
    big.write_bytes(b"GGUF" + bytes(8 << 20))
    paused = threading.Event()
    cancel = CancelToken(lambda held: paused.set() if held else None)
    digest = blob_digest(big, cancel, lambda *_: None)
    cancel.pause()

    held: list[bool] = []

    def go_on() -> None:
        held.append(paused.wait(30) and digest not in server.blobs)
        cancel.resume()

    threading.Thread(target=go_on, daemon=True).start()
    seen: list[int] = []
    with OllamaClient() as client:
        client.upload(big, digest, cancel, lambda what, done, total: seen.append(done))
    assert held == [True] and digest in server.blobs
    assert seen[-1] == big.stat().st_size == max(seen) and seen == sorted(seen)


def test_an_upload_that_is_cut_off_is_an_error(server: FakeOllama, tmp_path: Path) -> None:
    big = tmp_path / "big.gguf"
    big.write_bytes(b"GGUF" + bytes(24 << 20))
    server.faults["blobs"] = "cut"
    with OllamaClient() as client, pytest.raises(UserError, match="failed"):
        client.upload(big, f"sha256:{'0' * 64}", CancelToken(), lambda *_: None)


def test_a_file_that_vanishes_while_it_is_sent_is_an_error(server: FakeOllama, tmp_path: Path) -> None:
    with OllamaClient() as client, pytest.raises(FileNotFoundError):
        client.upload(tmp_path / "gone.gguf", f"sha256:{'0' * 64}", CancelToken(), lambda *_: None)


def test_progress_on_a_large_file_is_told_sparingly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ollama, "BLOCK_BYTES", 1000)
    big = tmp_path / "big.gguf"
    big.write_bytes(bytes(1_000_001))
    seen: list[int] = []
    blob_digest(big, CancelToken(), lambda what, done, total: seen.append(done))
    assert len(seen) <= ollama.TELLING_PARTS + 2 and seen[-1] == 1_000_001


def test_models_are_listed_with_their_sizes_and_what_they_hold(
    server: FakeOllama, chat_prompts: ChatPrompts, chat_gguf: Path
) -> None:
    server.vram_bytes = 3_000
    with OllamaClient() as client:
        made = make(client, chat_gguf, chat_prompts)
        assert client.models() == [InstalledModel("aegis:latest", made.digest, chat_gguf.stat().st_size)]
        assert client.loaded() == []
        server.loaded.add("aegis:latest")
        assert client.loaded() == [LoadedModel("aegis:latest", made.digest, 2048, 3_000)]
        client.unload("aegis")
        client.delete("aegis")
        assert client.models() == client.loaded() == []
        client.unload("aegis")
        client.delete("aegis")


def test_a_list_that_is_none_is_an_error(server: FakeOllama) -> None:
    server.models["x:latest"] = Model("", "", "", {})
    server.models["x:latest"].digest = 3  # type: ignore[assignment]
    with OllamaClient() as client, pytest.raises(UserError, match="cannot be read"):
        client.models()
    server.faults["tags"] = "malformed"
    with OllamaClient() as client, pytest.raises(UserError, match="cannot be read"):
        client.models()


def test_a_web_page_in_place_of_an_answer_is_named_and_not_quoted(server: FakeOllama) -> None:
    server.faults = {"create": "gateway", "ps": "gateway"}
    with OllamaClient() as client:
        with pytest.raises(UserError, match=r"web page.*502") as refusal:
            client.create({"model": "aegis"}, CancelToken(), lambda row: None)
        assert "<" not in refusal.value.reason and "proxy" in refusal.value.advice
        with pytest.raises(UserError, match="web page"):
            client.loaded()


def test_an_answer_streams_with_its_counts(server: FakeOllama, chat_prompts: ChatPrompts, chat_gguf: Path) -> None:
    server.answer = lambda messages: ["Entropy", " grows", "."]
    pieces: list[str] = []
    backend = talk(server, chat_prompts, chat_gguf)
    answer = backend.answer(ASK, SAMPLING, pieces.append, lambda: False)
    assert pieces == ["Entropy", " grows", "."]
    assert (answer.text, answer.reason, answer.n_tokens) == ("Entropy grows.", "stop", 3)
    assert backend.client.is_loaded("aegis", backend.made.digest)
    backend.client.unload("aegis")
    assert backend.client.loaded() == []


@pytest.mark.parametrize("fault", ["error line", "malformed", "cut", "ends early"])
def test_an_answer_that_breaks_off_keeps_what_came(
    server: FakeOllama, chat_prompts: ChatPrompts, chat_gguf: Path, fault: str
) -> None:
    backend = talk(server, chat_prompts, chat_gguf)
    server.faults["chat"] = fault
    answer = backend.answer(ASK, SAMPLING, lambda text: None, lambda: False)
    assert (answer.text, answer.reason) == ("It ", "error")
    assert "Ollama" in answer.error


def test_a_chat_that_cannot_begin_is_an_error(server: FakeOllama, chat_prompts: ChatPrompts, chat_gguf: Path) -> None:
    backend = talk(server, chat_prompts, chat_gguf)
    backend.client.delete("aegis")
    with pytest.raises(UserError, match="not found"):
        backend.answer(ASK, SAMPLING, lambda text: None, lambda: False)


def test_a_stop_is_heard_while_the_server_is_silent(
    server: FakeOllama, chat_prompts: ChatPrompts, chat_gguf: Path
) -> None:
    backend = talk(server, chat_prompts, chat_gguf)
    server.faults["chat"] = "silent"
    stopped = threading.Event()
    threading.Timer(0.3, stopped.set).start()
    started = time.monotonic()
    answer = backend.answer(ASK, SAMPLING, lambda text: None, stopped.is_set)
    assert (answer.text, answer.reason) == ("It ", "cancelled")
    assert time.monotonic() - started < 2.5  # the server would be silent for three seconds
    assert server.gone.wait(2.5)  # it has been hung up on, and so stops working on the answer
