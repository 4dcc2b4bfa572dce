"""A backend's prompts are compared with the tokenizer's, as Ollama renders or counts them, as llama.cpp reads them."""

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import gguf
import numpy as np
import pytest
from chat_families import FAMILIES, prompts_of, template
from fake_ollama import FakeOllama, full

from aegis_core.cancel import Cancelled, CancelToken
from aegis_core.chat import template_check
from aegis_core.chat.backend import NEUTRAL, Sampling, refuse_overflow
from aegis_core.chat.base_gguf import ensure_base_gguf
from aegis_core.chat.embedded import EmbeddedBackend
from aegis_core.chat.ollama import OllamaClient
from aegis_core.chat.ollama_model import MadeModel, OllamaBackend, ensure_model
from aegis_core.chat.prompt import ChatPrompts
from aegis_core.chat.session import open_backend
from aegis_core.chat.template import PromptMismatch
from aegis_core.chat.template_check import N_COUNTED, PromptCheck, check_server, check_tokens
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
NAMES = ("phi-3.5-mini-instruct", "llama-3-instruct", "mistral-7b-instruct-v0.3", "gemma-2-it")
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


def small_gguf(path: Path, add_bos: bool) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_add_bos_token(add_bos)
    writer.add_tensor("token_embd.weight", np.zeros((2, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def made_in(
    server: FakeOllama, prompts: ChatPrompts, folder: Path, heard: list[str] | None = None, system: str = ""
) -> MadeModel:
    """The model made as the app makes it; the server counts tokens as the file's own tokenizer would."""
    adds_bos = bool(prompts.format.bos)
    server.count = lambda text: len(prompts.encode((prompts.bos if adds_bos else "") + text))
    path = small_gguf(folder / "model.gguf", adds_bos)
    with OllamaClient() as client:
        return ensure_model(
            client,
            "aegis",
            path,
            prompts,
            ChatPlan(system=system),
            "mit",
            CancelToken(),
            lambda what, *_: heard.append(what) if heard is not None else None,
        )


def checked(prompts: ChatPrompts, n_ctx: int = 4096, cancel: CancelToken | None = None) -> PromptCheck:
    with OllamaClient() as client:
        return check_server(client, "aegis", prompts, n_ctx, cancel or CancelToken())


def spoil(server: FakeOllama, old: str, new: str) -> None:
    model = server.models[full("aegis")]
    assert old in model.template
    model.template = model.template.replace(old, new)


@pytest.mark.parametrize("name", NAMES)
def test_the_server_renders_every_probe_as_the_tokenizer_does(server: FakeOllama, tmp_path: Path, name: str) -> None:
    prompts = prompts_of(name, tmp_path / name)
    made_in(server, prompts, tmp_path)
    expected = len(probe_conversations(with_system=prompts.takes_system))
    assert checked(prompts) == PromptCheck("rendered", expected)
    assert len(server.chats) == 1  # one prompt is really read


@pytest.mark.parametrize("name", NAMES)
def test_an_older_server_is_asked_how_many_tokens_it_reads(server: FakeOllama, tmp_path: Path, name: str) -> None:
    server.tells_renderings = False
    prompts = prompts_of(name, tmp_path / name)
    made_in(server, prompts, tmp_path)
    found = checked(prompts)
    assert found.how == "counted" and N_COUNTED <= found.n_conversations <= 2 * N_COUNTED
    assert not found.problem and found.row()["status"] == "pass"


def test_a_server_that_renders_otherwise_is_an_error_with_both_renderings(
    server: FakeOllama, qwen: ChatPrompts, tmp_path: Path
) -> None:
    made_in(server, qwen, tmp_path)
    spoil(server, "<|im_start|>user\\n", "<|im_start|>user ")
    with pytest.raises(UserError) as refusal:
        checked(qwen)
    assert "<|im_start|>user Why?" in refusal.value.reason and "<|im_start|>user\\nWhy?" in refusal.value.reason


def test_a_difference_in_later_turns_alone_is_found(server: FakeOllama, qwen: ChatPrompts, tmp_path: Path) -> None:
    made_in(server, qwen, tmp_path)
    spoil(server, '{{ "<|im_start|>assistant\\n" }}{{ .Content }}', '{{ "<|im_start|>model\\n" }}{{ .Content }}')
    with pytest.raises(UserError, match="model"):
        checked(qwen)


def test_an_older_server_that_reads_other_numbers_of_tokens_is_an_error(
    server: FakeOllama, qwen: ChatPrompts, tmp_path: Path
) -> None:
    server.tells_renderings = False
    made_in(server, qwen, tmp_path)
    spoil(server, "helpful assistant", "unhelpful assistant")
    with pytest.raises(UserError, match=r"reads \d+ tokens where the tokenizer counts"):
        checked(qwen)


def test_a_leading_token_read_twice_is_found_though_the_rendering_is_right(server: FakeOllama, tmp_path: Path) -> None:
    prompts = prompts_of("llama-3-instruct", tmp_path / "llama")
    made_in(server, prompts, tmp_path)
    server.count = lambda text: len(prompts.encode(prompts.bos + prompts.bos + text))
    with pytest.raises(UserError, match="tokens where the tokenizer counts"):
        checked(prompts)


def test_a_server_that_says_nothing_is_no_pass(server: FakeOllama, qwen: ChatPrompts, tmp_path: Path) -> None:
    server.tells_renderings = False
    made_in(server, qwen, tmp_path)
    server.count = lambda text: 0
    assert checked(qwen).row()["status"] == "skipped"


def test_conversations_beyond_the_context_are_left_out(server: FakeOllama, qwen: ChatPrompts, tmp_path: Path) -> None:
    made_in(server, qwen, tmp_path)
    assert 0 < checked(qwen, n_ctx=256).n_conversations < N_PROBES


def test_the_comparison_can_be_stopped(server: FakeOllama, qwen: ChatPrompts, tmp_path: Path) -> None:
    made_in(server, qwen, tmp_path)
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        checked(qwen, cancel=cancel)


class NativeOllama(FakeOllama):
    """Takes the Jinja of the model file, as newer versions do where that knows of tools or thoughts."""

    prompts: ChatPrompts
    spoilt = False

    def rendered(self, model: str, messages: list[dict[str, str]]) -> str:
        text = self.prompts.text(messages).removeprefix(self.prompts.bos)
        return text.replace("user", "User") if self.spoilt else text


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, qwen: ChatPrompts) -> Iterator[NativeOllama]:
    monkeypatch.setenv("AEGIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(OllamaClient, "show", lambda self, model: {"template": qwen.template})
    with NativeOllama() as fake:
        monkeypatch.setenv("OLLAMA_HOST", fake.address)
        fake.prompts = qwen
        yield fake


def test_the_template_of_the_file_itself_is_taken_where_its_prompts_are_the_same(
    native: NativeOllama, qwen: ChatPrompts, tmp_path: Path
) -> None:
    heard: list[str] = []
    made = made_in(native, qwen, tmp_path, heard)
    assert any("template of the model file" in status for status in heard)
    assert made.digest == native.models[full("aegis")].digest


def test_the_template_of_the_file_itself_is_refused_where_its_prompts_differ(
    native: NativeOllama, qwen: ChatPrompts, tmp_path: Path
) -> None:
    native.spoilt = True
    with pytest.raises(UserError, match="makes another prompt"):
        made_in(native, qwen, tmp_path)
    assert native.models == {}


@pytest.mark.parametrize(("shown", "replaced"), [("\n{sent} \n", False), ("{sent}\n{{{{ .System }}}}", True)])
def test_blanks_around_a_shown_template_are_no_difference_and_anything_else_is(
    server: FakeOllama,
    qwen: ChatPrompts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shown: str,
    replaced: bool,
) -> None:
    show = OllamaClient.show

    def dressed(client: OllamaClient, model: str) -> dict[str, str] | None:
        found = show(client, model)
        return found and {**found, "template": shown.format(sent=found["template"])}

    monkeypatch.setattr(OllamaClient, "show", dressed)
    if replaced:
        with pytest.raises(UserError, match="replaced the chat template"):
            made_in(server, qwen, tmp_path)
    else:
        made_in(server, qwen, tmp_path)


def test_blanks_within_a_shown_template_are_a_difference(
    server: FakeOllama, qwen: ChatPrompts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show = OllamaClient.show
    monkeypatch.setattr(
        OllamaClient,
        "show",
        lambda client, model: {"template": str((show(client, model) or {})["template"]).replace("\\n", " ", 1)},
    )
    with pytest.raises(UserError, match="replaced the chat template"):
        made_in(server, qwen, tmp_path)


def base_gguf(folder: Path, run_folder: Path) -> Path:
    """The model folder as GGUF."""
    run = RunDirectory.create(run_folder, Plan())
    write_base(run, BaseModel(str(folder), "", str(folder), "1" * 64, "mit", "Llama", 1, 64, 320, False))
    return ensure_base_gguf(run, CancelToken(), lambda event: None)


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


def test_a_text_that_is_read_otherwise_is_told_with_both_readings(qwen: ChatPrompts) -> None:
    found = check_tokens(lambda text: [*qwen.encode(text), 7] if "Entropy" in text else qwen.encode(text), qwen)
    assert found.row()["status"] == "fail" and "Entropy" in found.problem and "7]" in found.problem


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
                given = local._request(prompts.token_ids(messages), SAMPLING)
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


def test_a_prompt_must_leave_room_for_an_answer() -> None:
    refuse_overflow(255, 256)
    with pytest.raises(UserError):
        refuse_overflow(256, 256)


def test_llama_cpp_takes_every_setting_of_the_sampling(pico_model: Path, pico_gguf: Path) -> None:
    prompts = ChatPrompts(pico_model)
    backend = EmbeddedBackend(pico_gguf, prompts, 512)
    try:
        ids = prompts.token_ids(talk("Why?"))
        told = backend._llama.complete({**backend._request(ids, SAMPLING), "max_tokens": 1, "verbose": True})
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


@pytest.mark.parametrize(
    ("check", "counts", "status"),
    [
        (PromptCheck("rendered", 50), [(9, 9), (8, 8)], "pass"),
        (PromptCheck("rendered", 50), [(9, 9), (9, 8)], "fail"),
        (PromptCheck("tokenised", 3, "x is read as y"), [(9, 9)], "fail"),
        (PromptCheck("counted", 0), [(9, 9)], "pass"),
        (PromptCheck("counted", 0), [(0, 9)], "skipped"),
    ],
)
def test_the_summary_joins_the_check_with_the_counts_of_the_answers(
    check: PromptCheck, counts: list[tuple[int, int]], status: str
) -> None:
    rows = [
        {"prompt_check": check.row(), "n_prompt_tokens": read, "n_expected_prompt_tokens": expected}
        for read, expected in counts
    ]
    found = template_check.summary(rows)
    assert found["status"] == status
    n_equal = sum(read == expected for read, expected in counts)
    assert f"{n_equal} of {len(counts)} answers" in found["measured"] and found["expected"]


def test_answers_from_before_the_check_existed_are_summed_up_too() -> None:
    assert template_check.summary([{"n_prompt_tokens": 9, "n_expected_prompt_tokens": 9}])["status"] == "pass"
