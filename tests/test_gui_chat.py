"""The chat page, talking to a scripted child process over the real pipe."""

import gc
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import shiboken6
from fake_ollama import FakeOllama, Model
from PySide6.QtCore import Qt, QThread, QTimer, QUrl
from PySide6.QtGui import QTextDocument
from PySide6.QtWidgets import QApplication, QFileDialog, QInputDialog, QMessageBox
from pytestqt.qtbot import QtBot

from aegis_core import plan as plans
from aegis_core.chat import history, overruling
from aegis_core.events import Progress, StepStarted, Token
from aegis_gui import chat_session
from aegis_gui.chat_message import MarkdownText, Turn
from aegis_gui.chat_session import ChatSession, Talk
from aegis_gui.i18n import Language
from aegis_gui.pages.chat import OLLAMA, QUESTIONS, ChatPage
from aegis_gui.state import AppState
from aegis_gui.theme import DARK, LIGHT, Theme

ENGINE = Path(__file__).with_name("fake_chat_engine.py")


@pytest.fixture(autouse=True)
def nothing_left_behind(qapp: QApplication) -> Iterator[None]:
    """No test may leave a running thread or a ticking timer."""
    yield
    qapp.processEvents()
    left = [thing for thing in gc.get_objects() if issubclass(type(thing), QThread | QTimer)]
    left = [thing for thing in left if shiboken6.isValid(thing)]
    assert not [thing for thing in left if isinstance(thing, QThread) and thing.isRunning()]
    assert not [thing for thing in left if isinstance(thing, QTimer) and thing.isActive() and not thing.isSingleShot()]


@pytest.fixture
def language(qapp: QApplication) -> Iterator[Language]:
    made = Language(qapp)
    yield made
    made.use("en")


@pytest.fixture
def tricks() -> list[str]:
    """What the engine is told to do out of the ordinary."""
    return []


@pytest.fixture
def page(tmp_path: Path, qtbot: QtBot, tricks: list[str]) -> Iterator[ChatPage]:
    state = AppState()
    state.create(tmp_path / "ri tual 日本語", plans.demo_plan())

    def command(run: Path, model: str) -> list[str]:
        return [sys.executable, str(ENGINE), str(run), model, *tricks]

    made = ChatPage(state, session=ChatSession(command))
    qtbot.addWidget(made)
    made.retranslate()
    made.resize(860, 600)
    made.show()
    yield made
    made.shut_down()
    assert not made.session._leaving


def ask(page: ChatPage, qtbot: QtBot, question: str) -> None:
    """Type and send, as a person would, and wait for the end of the answer."""
    send(page, qtbot, question)
    qtbot.waitUntil(lambda: page.conversation.exchanges[-1].end is not None, timeout=15_000)


def send(page: ChatPage, qtbot: QtBot, question: str) -> None:
    qtbot.keyClicks(page.conversation.entry, question)
    qtbot.keyClick(page.conversation.entry, Qt.Key.Key_Return)


def test_an_answer_streams_in_and_says_how_fast_it_came(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "hello")
    exchange = page.conversation.exchanges[0]
    assert exchange.answer == "aegis heard 1 **日本**"
    assert exchange.answered.shown.toPlainText() == "aegis heard 1 日本", "Markdown is rendered"
    speed, first, context = exchange.answered.remark.text().split(" · ")
    assert speed == "4 tokens, 8 tokens/s"
    assert re.fullmatch(r"first token after \d+\.\d s", first)
    assert context == "14 of 4,096 tokens of context"
    assert page.session.talk is Talk.READY


def test_the_conversation_goes_along_with_the_next_question(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "hello")
    ask(page, qtbot, "again")
    assert page.conversation.exchanges[1].answer.startswith("aegis heard 3")
    assert [message["role"] for message in page.conversation.messages()] == ["user", "assistant"] * 2


def test_the_system_prompt_of_the_plan_comes_first(page: ChatPage, qtbot: QtBot) -> None:
    page.state.change({"chat.system": "Be brief."})
    assert page.conversation.messages()[0] == {"role": "system", "content": "Be brief."}


def test_sampling_starts_from_the_plan_and_follows_the_controls(page: ChatPage, qtbot: QtBot) -> None:
    page.state.change({"chat.temperature": 0.3, "chat.max_tokens": 64})
    page.conversation.controls.top_p.setValue(0.55)
    ask(page, qtbot, "sampling")
    assert json.loads(page.conversation.exchanges[0].answer) == {"max_tokens": 64, "temperature": 0.3, "top_p": 0.55}


def test_stop_ends_the_answer_and_keeps_what_came(page: ChatPage, qtbot: QtBot) -> None:
    send(page, qtbot, "long")
    exchange = page.conversation.exchanges[-1]
    qtbot.waitUntil(lambda: exchange.n_pieces > 5, timeout=15_000)
    assert page.conversation.send.text() == "Stop"
    page.conversation.send.click()
    qtbot.waitUntil(lambda: exchange.end is not None, timeout=5000)
    assert exchange.answer.startswith("Say Say")
    assert "stopped" in exchange.answered.remark.text()
    ask(page, qtbot, "hello")
    assert page.conversation.exchanges[-1].answer.startswith("aegis heard 3"), "the same child answers on"


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
@pytest.mark.parametrize("spoken", ["en", "ja"])
def test_a_child_that_dies_in_mid_answer_leaves_what_came_and_is_replaced(
    page: ChatPage, qtbot: QtBot, language: Language, theme: Theme, spoken: str
) -> None:
    language.use(spoken)
    page.set_theme(theme)
    ask(page, qtbot, "crash")
    exchange = page.conversation.exchanges[0]
    assert exchange.answer == "The light crosses"
    assert exchange.answered.shown.toPlainText() == "The light crosses"
    assert exchange.end is not None and exchange.end.reason == "lost"
    assert "▲" in exchange.answered.remark.text()
    assert page.session.talk is Talk.CLOSED
    ask(page, qtbot, "hello")
    assert page.conversation.exchanges[1].answer.startswith("aegis heard 3")


def test_an_answer_that_fails_says_why_and_the_conversation_goes_on(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "fail")
    remark = page.conversation.exchanges[0].answered.remark.text()
    assert "broken off" in remark and "The model ran out of memory." in remark
    ask(page, qtbot, "hello")
    assert page.conversation.exchanges[1].end.reason == "stop"  # type: ignore[union-attr]


@pytest.mark.parametrize("tricks", [["refuse"]])
def test_a_run_with_nothing_to_talk_to_says_so_and_what_to_do(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "hello")
    remark = page.conversation.exchanges[0].answered.remark
    assert remark.isVisible()
    assert "There is no exported model to talk to yet. Run the export step first." in remark.text()
    assert page.conversation.messages() == [], "a question without an answer is not part of the conversation"


@pytest.mark.parametrize("tricks", [["slow-start"]])
def test_stop_while_the_model_is_loading_lets_it_go_at_once(page: ChatPage, qtbot: QtBot) -> None:
    send(page, qtbot, "hello")
    exchange = page.conversation.exchanges[-1]
    assert page.session.talk is Talk.LOADING
    assert "loaded" in exchange.answered.remark.text()
    started = time.monotonic()
    page.conversation.send.click()
    assert exchange.end is not None and time.monotonic() - started < 0.5


def test_the_base_model_is_another_child(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "hello")
    page.conversation.controls.model.setCurrentIndex(1)
    ask(page, qtbot, "hello")
    assert [exchange.model for exchange in page.conversation.exchanges] == ["aegis", "base"]
    assert page.conversation.exchanges[1].answer.startswith("base heard 3")
    qtbot.waitUntil(lambda: not page.session._leaving, timeout=10_000)


def test_nobody_can_talk_while_a_step_works_and_the_model_is_let_go(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "hello")
    page.state.begin()
    assert page.session.talk is Talk.CLOSED
    assert not page.conversation.entry.isEnabled() and "step is working" in page.conversation.hint.text()
    page.conversation.ask("hello")
    assert len(page.conversation.exchanges) == 1
    page.state.end()
    assert page.conversation.entry.isEnabled()
    qtbot.waitUntil(lambda: not page.session._leaving, timeout=10_000)


def test_a_new_conversation_forgets_and_the_model_stays(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "hello")
    page.conversation.fresh.click()
    assert page.conversation.messages() == []
    assert page.session.talk is Talk.READY
    ask(page, qtbot, "hello")
    assert page.conversation.exchanges[0].answer.startswith("aegis heard 1")


def written(page: ChatPage) -> list[history.Conversation]:
    run = page.state.run
    assert run is not None
    return history.conversations(run)


def test_what_was_said_is_there_again_when_the_run_is_opened_again(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "hello")
    ask(page, qtbot, "fail")
    view, run = page.conversation, page.state.run
    view.open_run(run, page.state.plan.chat)
    assert [exchange.question for exchange in view.exchanges] == ["hello", "fail"]
    assert "14 of 4,096" in view.exchanges[0].answered.remark.text()
    assert "ran out of memory" in view.exchanges[1].answered.remark.text()
    assert view.bar_above.list.currentText() == "hello"
    ask(page, qtbot, "more")
    assert view.exchanges[2].answer.startswith("aegis heard 5"), "the model is told what came before"
    assert len(written(page)) == 1, "it is the same conversation"


def test_another_answer_takes_the_place_of_the_last_and_both_stay_in_the_file(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "hello")
    ask(page, qtbot, "again")
    view = page.conversation
    assert view.exchanges[0].actions["repeat"].isHidden(), "only the last answer can be had again"
    view.exchanges[1].actions["repeat"].click()
    qtbot.waitUntil(lambda: view.exchanges[-1].end is not None, timeout=15_000)
    assert [exchange.question for exchange in view.exchanges] == ["hello", "again"]
    assert view.exchanges[1].answer.startswith("aegis heard 3")
    (talk,) = written(page)
    assert [row["content"] for row in talk.messages[::2]] == ["hello", "again"]
    file = page.state.run.path / history.FOLDER / f"{talk.id}.jsonl"
    assert file.read_text(encoding="utf-8").count('"again"') == 2


def test_a_question_is_brought_back_changed_and_sent_again(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "hello")
    ask(page, qtbot, "fail")
    view = page.conversation
    qtbot.keyClick(view.entry, Qt.Key.Key_Up)
    assert view.entry.toPlainText() == "fail" and len(view.exchanges) == 1
    view.entry.clear()
    view.exchanges[0].actions["edit"].click()
    assert view.exchanges == [] and view.entry.toPlainText() == "hello"
    ask(page, qtbot, " there")
    assert [row["content"] for row in written(page)[0].messages] == ["hello there", "aegis heard 1 **日本**"]


def test_an_answer_is_copied_as_it_was_written(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "hello")
    page.conversation.exchanges[0].actions["copy"].click()
    assert QApplication.clipboard().text() == "aegis heard 1 **日本**"


def test_a_history_that_cannot_be_written_is_said_and_the_talk_goes_on(
    page: ChatPage, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(history, "_append", full)
    ask(page, qtbot, "hello")
    ask(page, qtbot, "again")
    view = page.conversation
    assert view.exchanges[1].answer.startswith("aegis heard 3")
    assert view.hint.text() == "This conversation cannot be kept: No space left on device"
    view.exchanges[1].actions["edit"].click()
    assert len(view.exchanges) == 1


def test_a_damaged_history_is_named_and_a_new_conversation_begun(page: ChatPage, qtbot: QtBot) -> None:
    run = page.state.run
    assert run is not None
    (run.path / history.FOLDER).mkdir()
    torn = run.path / history.FOLDER / "20991231-235959-ab12.jsonl"
    torn.write_bytes(b"\xff\xfe{\n")
    view = page.conversation
    view.open_run(run, page.state.plan.chat)
    assert "is damaged" in view.hint.text()
    ask(page, qtbot, "hello")
    assert torn.read_bytes() == b"\xff\xfe{\n"
    assert [talk.title for talk in written(page)] == [torn.name, "hello"]


def test_conversations_are_renamed_saved_and_deleted(
    page: ChatPage, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(page, qtbot, "hello")
    bar = page.conversation.bar_above
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: ("観測  について", True))
    bar.rename.click()
    assert bar.list.currentText() == "観測 について"
    saved = tmp_path / "会話.md"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(saved), ""))
    bar.export.click()
    assert saved.read_text(encoding="utf-8").startswith("# 観測 について\n\n**You**")
    monkeypatch.setattr(QMessageBox, "question", lambda *_: QMessageBox.StandardButton.No)
    bar.delete.click()
    assert len(written(page)) == 1
    monkeypatch.setattr(QMessageBox, "question", lambda *_: QMessageBox.StandardButton.Yes)
    bar.delete.click()
    assert written(page) == [] and page.conversation.exchanges == []


def test_ollama_stands_beside_and_a_consent_there_becomes_a_setting(
    page: ChatPage, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeOllama() as fake:
        monkeypatch.setenv("OLLAMA_HOST", fake.address)
        fake.models["mine:latest"] = Model("sha256:0", "a1", "", {}, size=2_400_000_000)
        page.state.change({"chat.model_name": "mine"})
        page.tabs.show_view(OLLAMA)
        qtbot.waitUntil(lambda: page.ollama._found is not None, timeout=15_000)
        assert not page.ollama.allow.isHidden(), "AEGIS did not make that model"
        page.ollama.replace_allowed.emit("mine:latest")
        assert page.state.plan.chat.replace_model == "mine:latest"
        assert page.ollama.allow.isHidden()
        page.ollama.shut_down()


def test_nothing_is_sent_that_says_nothing(page: ChatPage, qtbot: QtBot) -> None:
    send(page, qtbot, "   ")
    assert page.conversation.exchanges == []
    qtbot.keyClick(page.conversation.entry, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    assert "\n" in page.conversation.entry.toPlainText(), "Shift+Enter begins a new line"


def test_the_end_of_the_program_leaves_no_child(page: ChatPage, qtbot: QtBot) -> None:
    send(page, qtbot, "long")
    qtbot.waitUntil(lambda: page.conversation.exchanges[-1].n_pieces > 2, timeout=15_000)
    worker = page.session._worker
    assert worker is not None
    child = worker.child
    started = time.monotonic()
    page.shut_down()
    assert not child.running
    assert time.monotonic() - started < 12, "a child that does not listen is ended"


def test_the_window_knows_the_sentence_by_which_the_child_says_it_is_ready() -> None:
    source = Path(chat_session.__file__).parents[1] / "aegis_core" / "chat" / "child.py"
    assert f'READY = "{chat_session.READY}"' in source.read_text(encoding="utf-8"), "importing it would load torch"


@pytest.mark.parametrize(
    "hostile",
    ["<img src='file:///etc/hostname'>", "![x](file:///etc/hostname)", "<script>alert(1)</script>", "<|im_end|> <b>x"],
)
def test_what_a_model_writes_is_shown_and_never_obeyed(qtbot: QtBot, hostile: str) -> None:
    turn = Turn(True)
    qtbot.addWidget(turn)
    turn.show_text(f"before {hostile} after")
    said = turn.shown.toPlainText()
    assert said == f"before {hostile} after"
    assert not turn.shown.openLinks()
    resource = QTextDocument.ResourceType.ImageResource.value
    assert MarkdownText().loadResource(resource, QUrl("file:///etc/hostname")) is None


def test_the_questions_of_the_step_are_shown_with_their_verdicts(page: ChatPage, qtbot: QtBot) -> None:
    assert page.state.run is not None
    page.on_event(StepStarted(stage="chat"))
    assert page.tabs.stack.currentIndex() == QUESTIONS
    page.on_event(Token("1", "Because ", stage="chat"))
    page.on_event(Token("1", "entropy", stage="chat"))
    qtbot.waitUntil(lambda: page.transcript.coming.text == "Because entropy", timeout=2000)
    checks = [
        {"name": "length", "passed": True, "measured": "61 words", "expected": "at least 25"},
        {"name": "concepts", "passed": False, "measured": "none", "expected": "at least 2 of 7"},
    ]
    row = {
        "question": "時間はなぜ不可逆なのですか？",
        "answer": "エントロピー",
        "n_tokens": 30,
        "seconds": 1.5,
        "backend": "embedded",
        "model": "aegis",
        "verdict": {"passed": False, "checks": checks},
    }
    folder = page.state.run.step_folder("chat")
    folder.mkdir()
    text = json.dumps(row, ensure_ascii=False)
    (folder / "transcript.jsonl").write_text(text + "\n" + text[:40], encoding="utf-8")
    page.on_event(Progress(1, 3, "answers", stage="chat"))
    entry = page.transcript.entries[0]
    assert len(page.transcript.entries) == 1, "a line that is still being written is passed over"
    assert not page.transcript.coming.isVisible()
    assert entry.word.text() == "not a meaningful answer"
    assert "20 tokens/s" in entry.answered.remark.text()
    assert entry.fold.text() == "1 of 2 checks passed"
    assert entry.checks.isHidden()
    entry.fold.click()
    assert not entry.checks.isHidden()


def judged(folder: Path, name: str, answer: str, passed: bool) -> None:
    row = {"question": "Why?\u2028Say.", "answer": answer, "model": name, "verdict": {"passed": passed, "checks": []}}
    (folder / f"{name}.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")


def test_the_base_models_answer_stands_beside_and_a_verdict_can_be_overruled(
    page: ChatPage, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = page.state.run
    assert run is not None
    run.step_folder("chat").mkdir()
    judged(run.step_folder("chat"), "transcript", "So.", False)
    judged(run.step_folder("chat"), "base_transcript", "Because.", True)
    page.tabs.show_view(QUESTIONS)
    page._show_transcript()
    (entry,) = page.transcript.entries
    assert not entry.base.isHidden() and entry.base.text == "Because."
    assert entry.base.remark.text() == "a meaningful answer"
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: (" ", True))
    entry.otherwise.click()
    assert overruling.overrules(run) == {}, "not without a reason"
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: ("短いが正しい", True))
    entry.otherwise.click()
    (entry,) = page.transcript.entries
    assert entry.word.text() == "not a meaningful answer", "what was measured stays"
    assert entry.own.text() == "You: a meaningful answer. 短いが正しい"
    (decision,) = overruling.overrules(run).values()
    assert decision.passed is True
    entry.otherwise.click()
    (entry,) = page.transcript.entries
    assert overruling.overrules(run) == {} and entry.own.isHidden()


def test_verdicts_that_cannot_be_read_are_said(page: ChatPage) -> None:
    run = page.state.run
    assert run is not None
    run.step_folder("chat").mkdir()
    judged(run.step_folder("chat"), "transcript", "So.", False)
    overruling.overrules_path(run).write_text("{\n", encoding="utf-8")
    page._show_transcript()
    assert "cannot be read" in page.transcript.notice.text()
    assert len(page.transcript.entries) == 1
    overruling.overrules_path(run).unlink()
    page._show_transcript()
    assert page.transcript.notice.isHidden()


def test_an_answer_without_a_verdict_is_called_neither_good_nor_bad(page: ChatPage, qtbot: QtBot) -> None:
    page.transcript.show_rows([{"question": "Why?", "answer": "So.", "verdict": None}])
    assert page.transcript.entries[0].word.text() == ""
    assert page.transcript.entries[0].shape.isHidden()
