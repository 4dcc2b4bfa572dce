"""The chat page, talking to a scripted child process over the real pipe."""

import gc
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import shiboken6
from fake_ollama import FakeOllama, Model
from PySide6.QtCore import Qt, QThread, QTimer, QUrl
from PySide6.QtGui import QTextDocument, QTextFormat
from PySide6.QtWidgets import QApplication, QFileDialog, QInputDialog, QMessageBox
from pytestqt.qtbot import QtBot

from aegis_core import plan as plans
from aegis_core.chat import history, overruling
from aegis_core.events import Progress, StepStarted, Token
from aegis_gui import chat_session
from aegis_gui.chat_answers import ChatAnswers
from aegis_gui.chat_exchange import Answer
from aegis_gui.chat_message import MarkdownText, Turn
from aegis_gui.chat_session import Talk
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

    made = ChatPage(state, answers=ChatAnswers(command))
    qtbot.addWidget(made)
    made.retranslate()
    made.resize(860, 600)
    made.show()
    yield made
    made.shut_down()
    assert not leaving(made)


def leaving(page: ChatPage) -> list[object]:
    """The chat children that were let go of and are not gone yet."""
    return [worker for session in page.answers.sessions.values() for worker in session._leaving]


def answer(page: ChatPage, place: int, model: int = 0) -> Answer:
    """What came to a question, as it is shown."""
    return page.conversation.exchanges[place].answers[model]


def heard(page: ChatPage, place: int, model: int = 0) -> str:
    return answer(page, place, model).reply.text


def told(page: ChatPage) -> list[dict[str, str]]:
    """What the last question went out with."""
    view = page.conversation
    assert view.dialogue is not None
    return view.dialogue.messages(view.exchanges[-1].exchange, "aegis")


def ask(page: ChatPage, qtbot: QtBot, question: str) -> None:
    """Type and send, as a person would, and wait for the end of the answer."""
    send(page, qtbot, question)
    qtbot.waitUntil(lambda: not page.answers.busy, timeout=15_000)


def send(page: ChatPage, qtbot: QtBot, question: str) -> None:
    qtbot.keyClicks(page.conversation.entry, question)
    qtbot.keyClick(page.conversation.entry, Qt.Key.Key_Return)


def test_an_answer_streams_in_and_says_how_fast_it_came(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "hello")
    assert heard(page, 0) == "aegis heard 1 **日本**"
    assert answer(page, 0).shown.toPlainText() == "aegis heard 1 日本", "Markdown is rendered"
    speed, first, context = answer(page, 0).remark.text().split(" · ")
    assert speed == "4 tokens, 10 tokens/s", "three tokens came in the 0.3 s after the first"
    assert first == "first token after 0.2 s"
    assert context == "14 of 4,096 tokens of context"
    assert page.answers.talk("aegis") is Talk.READY


def test_the_conversation_goes_along_with_the_next_question(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "hello")
    ask(page, qtbot, "again")
    assert heard(page, 1).startswith("aegis heard 3")
    assert [message["role"] for message in told(page)] == ["user", "assistant", "user"]


def test_a_conversation_has_a_system_prompt_of_its_own_and_keeps_it(page: ChatPage, qtbot: QtBot) -> None:
    page.state.change({"chat.system": "Be brief."})
    controls, view = page.conversation.controls, page.conversation
    assert controls.system.toPlainText() == "Be brief."
    ask(page, qtbot, "messages")
    assert json.loads(heard(page, 0)) == [{"role": "user", "content": "messages"}], "the model has the plan's itself"
    controls.system.setPlainText("Answer in rhyme.")
    ask(page, qtbot, "messages")
    assert json.loads(heard(page, 1))[0] == {"role": "system", "content": "Answer in rhyme."}
    view.open_run(page.state.run, page.state.plan.chat)
    assert controls.system.toPlainText() == "Answer in rhyme." and controls.fold.text() == "More · changed"
    view.fresh.click()
    assert controls.system.toPlainText() == "Be brief.", "a new conversation begins with the plan's"


def test_sampling_starts_from_the_plan_and_follows_the_controls(page: ChatPage, qtbot: QtBot) -> None:
    page.state.change({"chat.temperature": 0.3, "chat.max_tokens": 64, "chat.repeat_penalty": 1.125})
    controls = page.conversation.controls
    assert controls.fold.text() == "More"
    for name, value in (("top_p", 0.55), ("top_k", 12), ("seed", 7)):
        controls.boxes[name].setValue(value)  # type: ignore[arg-type]
    ask(page, qtbot, "sampling")
    own = {"top_p": 0.55, "top_k": 12, "seed": 7}
    planned = {"max_tokens": 64, "temperature": 0.3, "repeat_penalty": 1.125}
    assert json.loads(heard(page, 0)) == planned | own, "what was left alone has the plan's own digits"
    page.state.change({"chat.temperature": 0.4})
    assert controls.sampling == planned | own | {"temperature": 0.4}, "what was not changed follows the plan"
    page.conversation.open_run(page.state.run, page.state.plan.chat)
    assert controls.sampling["top_k"] == 12, "an earlier conversation comes back with its settings"
    controls.as_planned.click()
    assert controls.sampling == planned | {"temperature": 0.4, "top_p": 0.9, "top_k": 40, "seed": 0}
    assert not controls.as_planned.isEnabled()


def test_both_models_answer_side_by_side_one_after_the_other(page: ChatPage, qtbot: QtBot) -> None:
    view = page.conversation
    view.controls.model.setCurrentIndex(2)
    send(page, qtbot, "hello")
    assert answer(page, 0, 1).remark.text() == "It answers when the other has."
    qtbot.waitUntil(lambda: not page.answers.busy, timeout=15_000)
    assert [heard(page, 0, model) for model in (0, 1)] == ["aegis heard 1 **日本**", "base heard 1 **日本**"]
    assert answer(page, 0, 0).geometry().right() < answer(page, 0, 1).geometry().left()
    assert [page.answers.talk(model) for model in ("aegis", "base")] == [Talk.READY, Talk.READY]
    ask(page, qtbot, "messages")
    for model, name in enumerate(("aegis", "base")):
        assert json.loads(heard(page, 1, model))[1]["content"].startswith(f"{name} heard"), "each hears its own answers"
    view.open_run(page.state.run, page.state.plan.chat)
    assert [heard(page, 0, model).split()[0] for model in (0, 1)] == ["aegis", "base"]


def test_a_model_that_is_lost_does_not_keep_the_other_from_answering(page: ChatPage, qtbot: QtBot) -> None:
    page.conversation.controls.model.setCurrentIndex(2)
    ask(page, qtbot, "crash")
    assert [answer(page, 0, model).reply.reason for model in (0, 1)] == ["lost", "lost"]
    assert [heard(page, 0, model) for model in (0, 1)] == ["The light crosses"] * 2


def test_stop_ends_the_answer_that_comes_and_the_one_that_waits(page: ChatPage, qtbot: QtBot) -> None:
    page.conversation.controls.model.setCurrentIndex(2)
    send(page, qtbot, "long")
    qtbot.waitUntil(lambda: len(heard(page, 0)) > 20, timeout=15_000)
    page.conversation.send.click()
    qtbot.waitUntil(lambda: not page.answers.busy, timeout=5000)
    assert [answer(page, 0, model).reply.reason for model in (0, 1)] == ["cancelled", "cancelled"]
    assert heard(page, 0).startswith("Say Say") and heard(page, 0, 1) == ""
    assert page.answers.talk("base") is Talk.CLOSED, "it was never opened"


def test_stop_ends_the_answer_and_keeps_what_came(page: ChatPage, qtbot: QtBot) -> None:
    send(page, qtbot, "long")
    qtbot.waitUntil(lambda: len(heard(page, 0)) > 20, timeout=15_000)
    assert page.conversation.send.text() == "Stop"
    page.conversation.send.click()
    qtbot.waitUntil(lambda: not page.answers.busy, timeout=5000)
    assert heard(page, 0).startswith("Say Say")
    assert "stopped" in answer(page, 0).remark.text()
    ask(page, qtbot, "hello")
    assert heard(page, 1).startswith("aegis heard 3"), "the same child answers on"


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
@pytest.mark.parametrize("spoken", ["en", "ja"])
def test_a_child_that_dies_in_mid_answer_leaves_what_came_and_is_replaced(
    page: ChatPage, qtbot: QtBot, language: Language, theme: Theme, spoken: str
) -> None:
    language.use(spoken)
    page.set_theme(theme)
    ask(page, qtbot, "crash")
    assert heard(page, 0) == "The light crosses"
    assert answer(page, 0).shown.toPlainText() == "The light crosses"
    assert answer(page, 0).reply.reason == "lost"
    assert "▲" in answer(page, 0).remark.text()
    assert page.answers.talk("aegis") is Talk.CLOSED
    ask(page, qtbot, "hello")
    assert heard(page, 1).startswith("aegis heard 3")


def test_an_answer_that_fails_says_why_and_what_to_do_and_the_conversation_goes_on(
    page: ChatPage, qtbot: QtBot
) -> None:
    ask(page, qtbot, "fail")
    remark = answer(page, 0).remark.text()
    assert "broken off" in remark and "The model ran out of memory. Ask for less." in remark
    ask(page, qtbot, "hello")
    assert answer(page, 1).reply.reason == "stop"


@pytest.mark.parametrize("tricks", [["refuse"]])
def test_a_run_with_nothing_to_talk_to_says_so_and_what_to_do(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "hello")
    remark = answer(page, 0).remark
    assert remark.isVisible()
    assert "There is no exported model to talk to yet. Run the export step first." in remark.text()
    ask(page, qtbot, "hello")
    assert len(told(page)) == 1, "a question without an answer is not part of the conversation"


@pytest.mark.parametrize("tricks", [["slow-start"]])
def test_stop_while_the_model_is_loading_lets_it_go_at_once(page: ChatPage, qtbot: QtBot) -> None:
    send(page, qtbot, "hello")
    assert page.answers.talk("aegis") is Talk.LOADING
    assert "loaded" in answer(page, 0).remark.text()
    started = time.monotonic()
    page.conversation.send.click()
    assert answer(page, 0).reply.reason == "cancelled" and time.monotonic() - started < 0.5


def test_the_base_model_is_another_child_and_the_first_is_let_go(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "hello")
    page.conversation.controls.model.setCurrentIndex(1)
    ask(page, qtbot, "hello")
    assert [answer(page, place).reply.model for place in (0, 1)] == ["aegis", "base"]
    assert heard(page, 1).startswith("base heard 3")
    assert page.answers.talk("aegis") is Talk.CLOSED
    qtbot.waitUntil(lambda: not leaving(page), timeout=10_000)


def test_a_setting_that_is_read_when_a_model_is_opened_opens_it_anew(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "hello")
    first = page.answers.sessions["aegis"]._worker
    page.state.change({"chat.temperature": 0.1})
    ask(page, qtbot, "hello")
    assert page.answers.sessions["aegis"]._worker is first, "sampling goes along with each question"
    page.state.change({"chat.num_ctx": 2048})
    ask(page, qtbot, "hello")
    assert page.answers.sessions["aegis"]._worker is not first
    assert "of 2,048 tokens of context" in answer(page, 2).remark.text()
    qtbot.waitUntil(lambda: not leaving(page), timeout=10_000)


def test_nobody_can_talk_while_a_step_works_and_the_model_is_let_go(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "hello")
    page.state.begin()
    assert page.answers.talk("aegis") is Talk.CLOSED
    assert not page.conversation.entry.isEnabled() and "step is working" in page.conversation.hint.text()
    page.conversation.ask("hello")
    assert len(page.conversation.exchanges) == 1
    page.state.end()
    assert page.conversation.entry.isEnabled()
    qtbot.waitUntil(lambda: not leaving(page), timeout=10_000)


def test_a_new_conversation_forgets_and_the_model_stays(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "hello")
    page.conversation.fresh.click()
    assert page.conversation.exchanges == []
    assert page.answers.talk("aegis") is Talk.READY
    ask(page, qtbot, "hello")
    assert heard(page, 0).startswith("aegis heard 1")


def test_a_question_of_the_ritual_is_asked_at_one_click(page: ChatPage, qtbot: QtBot) -> None:
    page.state.change({"chat.questions": "ja"})
    prompts = page.conversation.prompts
    assert prompts.isVisible()
    first = "時間はなぜ不可逆なのですか？物理的に説明してください。"
    assert prompts.buttons[0].text() == first
    prompts.buttons[0].click()
    qtbot.waitUntil(lambda: not page.answers.busy, timeout=15_000)
    assert page.conversation.exchanges[0].exchange.question == first and not prompts.isVisible()


def written(page: ChatPage) -> list[history.Conversation]:
    run = page.state.run
    assert run is not None
    return history.conversations(run)


def test_what_was_said_is_there_again_when_the_run_is_opened_again(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "hello")
    ask(page, qtbot, "fail")
    view, run = page.conversation, page.state.run
    view.open_run(run, page.state.plan.chat)
    assert [shown.exchange.question for shown in view.exchanges] == ["hello", "fail"]
    assert "14 of 4,096" in answer(page, 0).remark.text() and "after 0.2 s" in answer(page, 0).remark.text()
    assert "ran out of memory. Ask for less." in answer(page, 1).remark.text()
    assert view.bar_above.list.currentText() == "hello"
    ask(page, qtbot, "more")
    assert heard(page, 2).startswith("aegis heard 5"), "the model is told what came before"
    assert len(written(page)) == 1, "it is the same conversation"


def test_another_answer_takes_the_place_of_the_last_and_both_stay_in_the_file(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "hello")
    ask(page, qtbot, "sampling")
    view = page.conversation
    assert view.exchanges[0].repeat.isHidden(), "only the last answer can be had again"
    seeds = [json.loads(heard(page, 1))["seed"]]
    for _ in range(2):
        view.exchanges[1].repeat.click()
        qtbot.waitUntil(lambda: not page.answers.busy, timeout=15_000)
        seeds.append(json.loads(heard(page, 1))["seed"])
    assert seeds == [0, 1, 2], "the same seed would give the same answer"
    assert view.controls.sampling["seed"] == 0
    assert [shown.exchange.question for shown in view.exchanges] == ["hello", "sampling"]
    (talk,) = written(page)
    assert [row["content"] for row in talk.messages[::2]] == ["hello", "sampling"]
    assert page.state.run is not None
    file = page.state.run.path / history.FOLDER / f"{talk.id}.jsonl"
    assert file.read_text(encoding="utf-8").count('"content": "sampling"') == 3


def test_a_question_is_brought_back_changed_and_sent_again(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "hello")
    ask(page, qtbot, "fail")
    view = page.conversation
    qtbot.keyClick(view.entry, Qt.Key.Key_Up)
    assert view.entry.toPlainText() == "fail" and len(view.exchanges) == 1
    view.entry.clear()
    view.exchanges[0].edit.click()
    assert view.exchanges == [] and view.entry.toPlainText() == "hello"
    ask(page, qtbot, " there")
    assert [row["content"] for row in written(page)[0].messages] == ["hello there", "aegis heard 1 **日本**"]


def test_an_answer_is_copied_as_it_was_written(page: ChatPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "hello")
    answer(page, 0).copy.click()
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
    assert heard(page, 1).startswith("aegis heard 3")
    assert view.hint.text() == "This conversation cannot be kept: No space left on device"
    view.exchanges[1].edit.click()
    assert len(view.exchanges) == 1


def test_a_long_answer_is_drawn_less_often_so_that_the_window_stays_free(page: ChatPage, qtbot: QtBot) -> None:
    view = page.conversation
    send(page, qtbot, "long")
    qtbot.waitUntil(lambda: len(heard(page, 0)) > 20, timeout=15_000)
    answer(page, 0).reply.text = "**word** and `code` " * 20_000
    view._take(answer(page, 0).reply)
    began = time.perf_counter()
    view._show_coming()
    took_ms = 1000 * (time.perf_counter() - began)
    assert view._render.interval() > 2 * took_ms
    view.send.click()
    qtbot.waitUntil(lambda: not page.answers.busy, timeout=15_000)


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


def test_a_conversation_cannot_be_deleted_while_an_answer_comes(page: ChatPage, qtbot: QtBot) -> None:
    send(page, qtbot, "long")
    qtbot.waitUntil(lambda: len(heard(page, 0)) > 20, timeout=15_000)
    assert not page.conversation.bar_above.delete.isEnabled()
    page.conversation.send.click()
    qtbot.waitUntil(lambda: not page.answers.busy, timeout=15_000)
    assert page.conversation.bar_above.delete.isEnabled()


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


def test_code_stands_on_a_ground_of_its_own(qtbot: QtBot) -> None:
    shown = MarkdownText()
    qtbot.addWidget(shown)
    shown.show_markdown("Before\n\n```python\nx = 1\n\ny = 2\n```\n\nAfter")
    grounds = []
    block = shown.document().begin()
    while block.isValid():
        grounds.append((block.text(), block.blockFormat().hasProperty(QTextFormat.Property.BackgroundBrush)))
        block = block.next()
    assert grounds == [("Before", False), ("x = 1", True), ("", True), ("y = 2", True), ("After", False)]


def test_nothing_is_sent_that_says_nothing(page: ChatPage, qtbot: QtBot) -> None:
    send(page, qtbot, "   ")
    assert page.conversation.exchanges == []
    qtbot.keyClick(page.conversation.entry, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    assert "\n" in page.conversation.entry.toPlainText(), "Shift+Enter begins a new line"


def test_the_end_of_the_program_leaves_no_child(page: ChatPage, qtbot: QtBot) -> None:
    send(page, qtbot, "long")
    qtbot.waitUntil(lambda: len(heard(page, 0)) > 20, timeout=15_000)
    worker = page.answers.sessions["aegis"]._worker
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
