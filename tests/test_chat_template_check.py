"""A backend's prompts are compared with the tokenizer's, as Ollama renders or counts them, as llama.cpp reads them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_families import prompts_of
from chat_parts import NativeOllama, made_in
from fake_ollama import FakeOllama, full

from aegis_core.cancel import Cancelled, CancelToken
from aegis_core.chat import template_check
from aegis_core.chat.ollama import OllamaClient
from aegis_core.chat.prompt import ChatPrompts
from aegis_core.chat.template_check import N_COUNTED, PromptCheck, check_server, check_tokens
from aegis_core.chat.template_verify import probe_conversations
from aegis_core.failures import UserError

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


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, qwen: ChatPrompts) -> Iterator[NativeOllama]:
    monkeypatch.setenv("AEGIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(OllamaClient, "show", lambda self, model: {"template": qwen.template})
    fake = NativeOllama()
    fake.prompts = qwen
    with fake:
        monkeypatch.setenv("OLLAMA_HOST", fake.address)
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


def test_a_text_that_is_read_otherwise_is_told_with_both_readings(qwen: ChatPrompts) -> None:
    found = check_tokens(lambda text: [*qwen.encode(text), 7] if "Entropy" in text else qwen.encode(text), qwen)
    assert found.row()["status"] == "fail" and "Entropy" in found.problem and "7]" in found.problem


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
