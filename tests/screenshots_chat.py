"""`python -m tests.screenshots_chat OUT`: the chat page in its states, in both languages and themes, as PNG."""

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).parent))

from album import snap, verdict
from gui_parts import open_window, recorded_run
from PySide6.QtCore import QSize
from PySide6.QtWidgets import QApplication

from aegis_core.chat.dialogue import Dialogue
from aegis_core.events import AnswerFinished, StepFailed
from aegis_core.plan import demo_plan
from aegis_core.run_directory import RunDirectory
from aegis_gui.i18n import LANGUAGES
from aegis_gui.pages.chat import ChatPage
from aegis_gui.theme import THEMES
from aegis_gui.window import Window

SIZES = {"": QSize(1280, 800), "-small": QSize(1100, 720)}
QUESTION = {
    "en": "Why is time irreversible? Explain it physically.",
    "ja": "時間はなぜ不可逆なのですか？物理的に説明してください。",
}
ANSWERS = {
    "en": (
        "**Entropy** grows in a closed system, because there are far more disordered states than ordered ones:\n\n"
        "1. The microscopic laws run either way.\n2. The *number of microstates* does not.\n\n"
        "```python\nimport math\n\nentropy = BOLTZMANN * math.log(n_microstates)\n```\n\n"
        "So `dS ≥ 0`, and that gives time its arrow."
    ),
    "ja": (
        "閉じた系では**エントロピー**が増大します。秩序ある状態より無秩序な状態のほうが圧倒的に多いからです。\n\n"
        "1. 微視的な法則は時間反転に対して対称です。\n2. しかし*微視的状態の数*は対称ではありません。\n\n"
        "```python\nimport math\n\nentropy = BOLTZMANN * math.log(n_microstates)\n```\n\n"
        "したがって `dS ≥ 0` となり、時間に向きが生まれます。"
    ),
}
BASE = {
    "en": "Time is like a river: it flows on and never comes back.",
    "ja": "時間は川のように流れ、戻ることはありません。",
}


def shoot(out: Path) -> list[Path]:
    """Write every picture; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    app = QApplication.instance() or QApplication(sys.argv[:1])
    assert isinstance(app, QApplication)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["AEGIS_PREFERENCES"] = str(Path(scratch) / "window.ini")
        os.environ["AEGIS_RUNS"] = str(Path(scratch) / "AEGIS")
        with open_window(app) as window:
            window.machine.shut_down()
            run = recorded_run(Path(scratch) / "AEGIS" / "demo 日本語", demo_plan())
            window.state.open(run.path)
            return [path for language in LANGUAGES for path in _states(window, run, language, out)]


def _states(window: Window, run: RunDirectory, language: str, out: Path) -> list[Path]:
    window._use_language(language)
    window.state.change({"chat.questions": language})
    window.show_page("chat")
    page = window.step_page("chat")
    assert isinstance(page, ChatPage)
    view = page.conversation
    view.go_on("")
    pictures = _pictures(window, out, "empty", language)
    talk = Dialogue(run)
    for models in (("aegis",), ("aegis", "base")):
        exchange = talk.ask(QUESTION[language], models, {"temperature": 0.7, "seed": 0})
        for reply, words in zip(exchange.replies, (ANSWERS[language], BASE[language]), strict=False):
            reply.text = words
            figures = {"n_prompt_tokens": 38, "first_token_seconds": 0.21}
            reply.end(AnswerFinished("1", "stop", 112, 3.4, **figures))  # type: ignore[arg-type]
            talk.finish(reply)
    view.go_on(talk.id)
    pictures += _pictures(window, out, "side-by-side", language)
    view.controls.fold.setChecked(True)
    view.controls.system.setPlainText(QUESTION[language])
    pictures += _pictures(window, out, "settings", language)
    view.controls.fold.setChecked(False)
    lost = talk.ask(QUESTION[language], ("aegis",), {})
    lost.replies[0].text = ANSWERS[language][:60]
    lost.replies[0].end(AnswerFinished("1", "lost", 0, 1.0))
    talk.finish(lost.replies[0])
    view.go_on(talk.id)
    nobody = StepFailed("", "", "", "There is no exported model to talk to yet.", "Run the export step first.")
    view.exchanges[0].answers[0].tell(nobody)
    pictures += _pictures(window, out, "lost", language)
    window.state.begin()
    pictures += _pictures(window, out, "barred", language)
    window.state.end()
    return pictures


def _pictures(window: Window, out: Path, state: str, language: str) -> list[Path]:
    found = []
    for theme in THEMES:
        window._use_theme(theme)
        for suffix, size in SIZES.items():
            window.resize(size)
            for _ in range(10):
                QApplication.processEvents()
            found.append(snap(window, out / f"chat-{state}-{language}-{theme}{suffix}.png"))
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    sys.stdout.write(f"{len(shoot(folder))} pictures in {folder}\n")
    sys.exit(verdict(folder))
