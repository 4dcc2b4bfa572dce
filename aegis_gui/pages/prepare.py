"""Step 2 on screen: which base model, which data, and what came of them."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtGui import QCloseEvent, QShowEvent
from PySide6.QtWidgets import QWidget

from aegis_core.events import Event, StepFinished
from aegis_core.run_directory import read_json

from .. import text
from ..data_look import DataLook
from ..data_preview import DataPreview
from ..facts import Facts
from ..flow import Status
from ..form import Form
from ..i18n import filled, mark, tr
from ..panels import Section, label
from ..run_view import RunView
from ..state import AppState
from ..theme import Theme
from .step_page import StepPage

MODEL = (
    "model.source",
    "model.quantisation",
    "model.revision",
    "model.dtype",
    "model.remote_code_consent",
)
DATA = (
    "data.source",
    "data.language",
    "data.format",
    "data.sequence_length",
    "data.question_field",
    "data.answer_field",
    "data.messages_field",
    "data.text_field",
    "data.encoding",
    "data.max_samples",
    "data.packing",
    "data.over_long",
    "data.subset",
    "data.split",
    "data.revision",
    "data.streaming",
    "data.held_out_fraction",
    "data.seed",
)
# What prepare counted in data.json, and the words for it.
LEFT_OUT = {
    "n_blank": mark("Left out because blank"),
    "n_without_answer": mark("Left out because nothing answers"),
    "n_foreign_role": mark("Left out because of other roles"),
    "n_half_character": mark("Left out because of half a character"),
    "n_refused_by_template": mark("Refused by the chat template"),
}
SHOWN_CHARACTERS = 600


class PreparePage(StepPage):
    step = "prepare"
    sentence = mark(
        "Fetches the base model and turns the data into training sequences; a part is kept aside to measure with."
    )

    def __init__(self, state: AppState, parent: QWidget | None = None) -> None:
        super().__init__(state, parent)
        model, data = Section(mark("Base model")), Section(mark("Data"))
        model.body.addWidget(Form(state, MODEL))
        data.body.addWidget(Form(state, DATA))
        self.look = DataLook(state, self)
        self.preview = DataPreview()
        self.look.changed.connect(self._show_look)
        self.preview.looked.connect(self.look.look)
        self.preview.mended.connect(self._mend)
        seen = Section(mark("What the data is read as"))
        seen.body.addWidget(self.preview)
        self.result = Section(mark("What is there now"))
        self.facts = Facts()
        self.example_title = label(role="secondary")
        self.example = label(wraps=True)
        self.example.setObjectName("foreign words")
        for widget in (self.facts, self.example_title, self.example):
            self.result.body.addWidget(widget)
        for section in (self.result, model, data, seen):
            self.body.addWidget(section)

    def on_event(self, event: Event) -> None:
        super().on_event(event)
        if isinstance(event, StepFinished):
            self._draw()

    def show_run(self, view: RunView) -> None:
        super().show_run(view)
        self._draw()
        self._follow()

    def plan_changed(self) -> None:
        super().plan_changed()
        self._follow()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._follow()

    def closeEvent(self, event: QCloseEvent) -> None:
        self.look.stop()
        super().closeEvent(event)

    def set_theme(self, theme: Theme) -> None:
        super().set_theme(theme)
        self._draw()

    def retranslate(self) -> None:
        super().retranslate()
        self.example_title.setText(tr("The first training sequence reads; what is learned stands out"))
        self.preview.retranslate()
        self._draw()

    def _follow(self) -> None:
        """Look into the data while somebody sees it, unless the finished step has done so; a look ends with its run."""
        seen = self.isVisible() and not self.state.busy and not self._prepared()
        if seen or self.state.run is None:
            self.look.follow()
        self._show_look()

    def _prepared(self) -> Mapping[str, Any] | None:
        """What the finished step itself saw in the data, while it still holds."""
        if self.state.run is None or self.status is not Status.DONE:
            return None
        path = self.state.run.step_folder(self.step) / "data.json"
        seen: Mapping[str, Any] | None = read_json(path).get("preview") if path.is_file() else None
        return seen

    def _show_look(self) -> None:
        if seen := self._prepared():
            self.preview.show_look(seen)
        else:
            self.preview.show_look(self.look.row, self.look.running, self.look.asks)

    def _mend(self, changes: Mapping[str, Any]) -> None:
        if not self.state.busy:
            self.state.change(changes)

    def _draw(self) -> None:
        folder = self.state.run.step_folder(self.step) if self.state.run else None
        ready = folder is not None and (folder / "base.json").is_file() and (folder / "data.json").is_file()
        self.result.setVisible(ready)
        if folder is None or not ready:
            return
        base, data = read_json(folder / "base.json"), read_json(folder / "data.json")
        self.facts.show_facts([*_model_facts(base), *_data_facts(data)])
        parts = data.get("example_parts") or [{"text": data.get("example", ""), "learned": True}]
        self.example.setTextFormat(Qt.TextFormat.RichText)
        self.example.setText(_example(parts, self.theme))
        self.example.setVisible(any(part["text"] for part in parts))
        self.example_title.setVisible(self.example.isVisibleTo(self))
        self._show_look()


def _example(parts: Sequence[Mapping[str, Any]], theme: Theme) -> str:
    """The text with what is not learned in a lighter tone; never taken for markup."""
    left, shown = SHOWN_CHARACTERS, []
    for part in parts:
        text_ = part["text"][:left]
        left -= len(text_)
        colour = theme.text if part["learned"] else theme.secondary
        shown.append(f'<span style="color: {colour}">{html.escape(text_)}</span>')
    whole = "".join(shown).replace("\n", "<br>")
    return whole + ("…" if sum(len(part["text"]) for part in parts) > SHOWN_CHARACTERS else "")


def _model_facts(base: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (tr("Model"), base["source"]),
        (tr("Architecture"), base["architecture"]),
        (
            tr("Size"),
            filled(
                "{parameters} million parameters, hidden size {hidden}, vocabulary {vocabulary}",
                parameters=text.number(round(base["n_parameters"] / 1e6)),
                hidden=base["hidden_size"],
                vocabulary=text.number(base["vocabulary_size"]),
            ),
        ),
        (tr("Licence"), base["license"] or tr("not stated")),
        (tr("SHA-256"), base["sha256"][:16] + "…"),
    ]


def _data_facts(data: dict[str, Any]) -> list[tuple[str, str]]:
    facts = [(tr("Samples"), text.number(data["n_samples"]))]
    for key, name in (("train", tr("For training")), ("held_out", tr("Held out"))):
        counts = data[key]
        shown = filled(
            "{sequences} sequences, {tokens} tokens",
            sequences=text.number(counts["n_sequences"]),
            tokens=text.number(counts["n_tokens"]),
        )
        facts.append((name, shown))
    counts = {key: data.get(key) for key in LEFT_OUT}
    facts += [(tr(LEFT_OUT[key]), text.number(n)) for key, n in counts.items() if n]
    if n := data.get("n_longer_than_sequence"):
        split = data.get("over_long", "split") == "split"
        shown = filled("{n}, split" if split else "{n}, left out", n=text.number(n))
        facts.append((tr("Longer than one sequence"), shown))
    return facts
