"""Pictures of the Ollama panel in every state that there is, with its models, its questions and its failures.

Part of `python -m tests.screenshots OUT`; alone: `python -m tests.screenshots_ollama OUT`.
"""

import os
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).parent))

import httpx
from PySide6.QtGui import QColor, QImage, QPainter
from PySide6.QtWidgets import QApplication

from aegis_core.chat import ollama_state
from aegis_core.chat.ollama_state import OllamaState, Presence
from aegis_core.failures import UserError, explain
from aegis_gui.i18n import LANGUAGES, Language
from aegis_gui.ollama_inquiry import Found, ModelRow
from aegis_gui.ollama_panel import LOOKING, OllamaPanel
from aegis_gui.theme import THEMES, Appearance, Theme

GAP = 12
WIDTHS = {"usual": 900, "narrow": 640}
HERE, BOX = "http://127.0.0.1:11434", "http://studio.example:11434"
REFUSAL = UserError(
    "Ollama was asked to let go of {model} but still holds it.",
    "Wait until it has answered whoever is using it, then try again.",
    model="aegis:latest",
)
MODELS = (
    ModelRow("aegis:latest", 2_393_231_072, True, 3_100_000_000, 3_100_000_000),
    ModelRow("aegis-base:latest", 7_643_295_904, True),
    ModelRow(
        "hf.co/someone/a-rather-long-name-of-a-model-GGUF:Q4_K_M", 4_920_753_328, False, 5_600_000_000, 2_100_000_000
    ),
)


@dataclass(frozen=True)
class Shown:
    """`wanted` is the run's own name for its model, `allowed` the one that may be replaced."""

    name: str
    state: OllamaState
    models: tuple[ModelRow, ...] = ()
    wanted: str = "aegis"
    allowed: str = ""
    failure: UserError | None = None
    busy: str = ""


def shown() -> Iterator[Shown]:
    running = OllamaState(Presence.RUNNING, HERE, "0.14.2")
    yield Shown("running", running, MODELS)
    yield Shown("running-empty", running)
    yield Shown("running-taken", running, MODELS[2:], wanted=MODELS[2].name)
    yield Shown("running-allowed", running, MODELS[2:], wanted=MODELS[2].name, allowed=MODELS[2].name)
    yield Shown("running-failed", running, MODELS, failure=REFUSAL)
    yield Shown("asking", running, MODELS, busy=LOOKING)
    for name, state in every_state().items():
        if name is not Presence.RUNNING:
            yield Shown(str(name).replace("_", "-"), state)


def every_state() -> dict[Presence, OllamaState]:
    """One of each kind, as the engine itself finds it where a request ends like this."""
    refused = httpx.ConnectError("connection refused")
    gateway = httpx.Response(407, headers={"Proxy-Authenticate": "Basic"})
    encryption = httpx.ConnectError("[SSL: WRONG_VERSION_NUMBER] wrong version number")
    encryption.__cause__ = ssl.SSLError()
    found = [
        _looked(httpx.Response(200, json={"version": "0.14.2"})),
        _looked(httpx.Response(200, json={"version": "0.5.4"})),
        _looked(refused, program=Path("ollama")),
        _looked(refused),
        _looked(refused, BOX),
        _looked(httpx.Response(404, html="", headers={"Server": "nginx/1.27"})),
        _looked(httpx.ReadTimeout("")),
        _looked(gateway, BOX),
        _looked(encryption, HERE.replace("http", "https")),
    ]
    return {state.presence: state for state in found}


def _looked(answer: httpx.Response | Exception, host: str = HERE, program: Path | None = None) -> OllamaState:
    def get(*arguments: object, **options: object) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with (
        mock.patch.dict(os.environ, {"OLLAMA_HOST": host}),
        mock.patch.object(httpx, "get", get),
        mock.patch.object(ollama_state, "find_program", lambda: program),
        mock.patch.object(
            ollama_state,
            "proxy_for",
            lambda base: "http://proxy.example:3128" if base == BOX and isinstance(answer, httpx.Response) else "",
        ),
    ):
        return ollama_state.look()


def shoot_panel(out: Path, language: Language, appearance: Appearance) -> list[Path]:
    """A column of all states for each language, theme and width; returns the pictures' paths."""
    pictures = []
    for name, width in WIDTHS.items():
        for tongue in LANGUAGES:
            for theme in THEMES:
                language.use(tongue)
                appearance.use(theme)
                path = out / f"ollama-{name}-{tongue}-{theme}.png"
                _column([_picture(one, width, appearance.theme) for one in shown()], appearance.theme).save(str(path))
                pictures.append(path)
    return pictures


@contextmanager
def drawn(one: Shown, width: int, theme: Theme) -> Iterator[OllamaPanel]:
    """A panel of that width on screen, at the height it needs."""
    panel = OllamaPanel(theme)
    panel.set_wanted(one.wanted, one.allowed)
    panel._on_found(Found(one.state, one.models))
    if one.failure:
        panel._on_refused(explain(one.failure))
    if one.busy:
        panel._doing = one.busy
        panel._draw()
    panel.setFixedWidth(width)
    panel.show()
    for _ in range(4):  # a change of language or style draws it once more
        QApplication.processEvents()
    panel.setFixedHeight(panel.heightForWidth(width) if panel.hasHeightForWidth() else panel.sizeHint().height())
    QApplication.processEvents()
    try:
        yield panel
    finally:
        panel.shut_down()
        panel.close()
        panel.deleteLater()


def _picture(one: Shown, width: int, theme: Theme) -> QImage:
    with drawn(one, width, theme) as panel:
        return panel.grab().toImage()


def _column(images: list[QImage], theme: Theme) -> QImage:
    whole = QImage(
        images[0].width() + 2 * GAP, sum(image.height() + GAP for image in images) + GAP, QImage.Format.Format_RGB32
    )
    whole.fill(QColor(theme.window))
    painter = QPainter(whole)
    top = GAP
    for image in images:
        painter.drawImage(GAP, top, image)
        top += image.height() + GAP
    painter.end()
    return whole


def main() -> None:
    app = QApplication(sys.argv[:1])
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    pictures = shoot_panel(out, Language(app), Appearance(app))
    sys.stdout.write(f"{len(pictures)} pictures in {out}\n")


if __name__ == "__main__":
    main()
