"""The conversation in a terminal, with backends that say what they were asked (fakes at the backend's edge)."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from aegis_core import plan as plans
from aegis_core.chat import history, terminal
from aegis_core.chat.backend import Answer, Message, Sampling
from aegis_core.cli import main
from aegis_core.failures import UserError
from aegis_core.run_directory import RunDirectory


class Echo:
    """Answers with its name, the number of messages and the seed; "fail" cannot be answered."""

    name = "embedded"

    def __init__(self, model: str) -> None:
        self.model = f"{model}.gguf"
        self.closed = False

    def answer(
        self,
        messages: list[Message],
        sampling: Sampling,
        on_token: Callable[[str], None],
        cancelled: Callable[[], bool],
    ) -> Answer:
        if messages[-1]["content"] == "fail":
            raise UserError("The conversation is too long.", "Begin a new one.")
        words = f"{self.model} {len(messages)} {sampling.seed} {sampling.temperature} {messages[0]['content']}"
        on_token(words)
        return Answer(words, "stop", 5, 1.0, 7, 7)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "ri tual 日本語", plans.demo_plan())


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Echo]:
    made: list[Echo] = []

    def open_one(run: RunDirectory, plan: plans.Plan, model: str, emit: object) -> Echo:
        made.append(Echo(model))
        return made[-1]

    monkeypatch.setattr(terminal, "open_backend", open_one)
    return made


def talk(run: RunDirectory, *lines: str, models: tuple[str, ...] = ("aegis",), go_on: bool = False) -> str:
    """What stands in the terminal after these lines were typed."""
    typed = iter([*lines, ""])
    console = Console(file=io.StringIO(), width=200)
    console.input = lambda prompt: next(typed)  # type: ignore[method-assign, assignment]
    terminal.talk(run, models, console, go_on)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_both_models_answer_one_after_the_other_and_are_closed_at_the_end(run, opened):
    shown = talk(run, "hello", models=("aegis", "base"))
    assert shown.index("aegis.gguf 1 0 0.2 hello") < shown.index("base.gguf 1 0 0.2 hello")
    assert [backend.closed for backend in opened] == [True, True]


def test_another_model_is_opened_when_it_is_chosen_and_only_once(run, opened):
    talk(run, "1", "/model base", "2", "/model both", "3", "/model base")
    assert [backend.model for backend in opened] == ["aegis.gguf", "base.gguf"]


def test_an_answer_is_had_again_with_another_seed_and_a_question_changed(run, opened):
    shown = talk(run, "1", "/again", "/again", "/edit 2", "/edit")
    for words in ("aegis.gguf 1 0 0.2 1", "aegis.gguf 1 1 0.2 1", "aegis.gguf 1 2 0.2 1", "aegis.gguf 1 2 0.2 2"):
        assert words in shown
    assert "Write the new question behind /edit." in shown
    (kept,) = history.conversations(run)
    assert [row["content"] for row in kept.messages if row["role"] == "user"] == ["2"]


def test_system_text_and_sampling_change_in_the_middle_of_it(run, opened):
    shown = talk(run, "1", "/system Be brief.", "/set temperature=0.75", "2", "/system", "3")
    assert "aegis.gguf 4 0 0.75 Be brief." in shown
    assert "aegis.gguf 5 0 0.75 1" in shown


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/set temperature=9", "These sampling settings are out of bounds"),
        ("/set warmth=1", "“warmth=1” sets nothing. Write e.g. /set temperature=0.3"),
        ("/set temperature", "sets nothing"),
        ("/model other", "There is no model other."),
        ("/again", "Nothing was asked yet."),
        ("/dance", "There is no command /dance. /help shows those there are."),
        ("/save", "The file has no name."),
        ("fail", "The conversation is too long. Begin a new one."),
        ("/help", "begin a new conversation"),
        ("//etc", "aegis.gguf 1 0 0.2 /etc"),
    ],
)
def test_what_cannot_be_done_is_said_and_the_conversation_goes_on(run, opened, line, expected):
    shown = talk(run, line, "hello")
    assert expected in shown
    assert "aegis.gguf" in shown.splitlines()[-2], "the next question is answered"


def test_a_conversation_is_gone_on_with_and_a_new_one_begun(run, opened):
    talk(run, "1")
    shown = talk(run, "2", "/new", "3", go_on=True)
    assert "> 1" in shown and "aegis.gguf 3 0 0.2 1" in shown and "aegis.gguf 1 0 0.2 3" in shown
    assert len(history.conversations(run)) == 2


def test_it_is_saved_as_markdown(run, opened, tmp_path):
    path = tmp_path / "会話.md"
    talk(run, "1", f"/save {path}")
    assert path.read_text(encoding="utf-8").startswith("# 1\n\n**You**")
    assert "cannot be written" in talk(run, "1", f"/save {tmp_path}")


def test_the_command_knows_its_models(run, capsys):
    assert main(["chat", str(run.path), "--model", "other"]) == 2
    assert "It is base, aegis or both." in capsys.readouterr().err
    assert main(["chat", str(run.path), "--model", "both", "--events"]) == 2
    assert json.loads(run.plan_path.read_text(encoding="utf-8"))
