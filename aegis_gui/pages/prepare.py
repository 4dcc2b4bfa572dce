"""Step 2 on screen: which base model, which data, and what came of them."""

from typing import Any

from PySide6.QtWidgets import QWidget

from aegis_core.events import Event, StepFinished
from aegis_core.run_directory import read_json

from .. import text
from ..facts import Facts
from ..form import Form
from ..i18n import filled, mark, tr
from ..panels import Section, label
from ..run_view import RunView
from ..state import AppState
from .step_page import StepPage

MODEL = ("model.source", "model.revision", "model.dtype")
DATA = (
    "data.source",
    "data.language",
    "data.sequence_length",
    "data.split",
    "data.text_field",
    "data.held_out_fraction",
    "data.seed",
)


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
        self.result = Section(mark("What is there now"))
        self.facts = Facts()
        self.example_title = label(role="secondary")
        self.example = label(wraps=True)
        for widget in (self.facts, self.example_title, self.example):
            self.result.body.addWidget(widget)
        for section in (self.result, model, data):
            self.body.addWidget(section)

    def on_event(self, event: Event) -> None:
        super().on_event(event)
        if isinstance(event, StepFinished):
            self._draw()

    def show_run(self, view: RunView) -> None:
        super().show_run(view)
        self._draw()

    def retranslate(self) -> None:
        super().retranslate()
        self.example_title.setText(tr("The first training sequence reads"))
        self._draw()

    def _draw(self) -> None:
        folder = self.state.run.step_folder(self.step) if self.state.run else None
        ready = folder is not None and (folder / "base.json").is_file() and (folder / "data.json").is_file()
        self.result.setVisible(ready)
        if folder is None or not ready:
            return
        base, data = read_json(folder / "base.json"), read_json(folder / "data.json")
        self.facts.show_facts([*_model_facts(base), *_data_facts(data)])
        example = data.get("example", "")
        self.example.setText(example[:600] + ("…" if len(example) > 600 else ""))
        self.example.setVisible(bool(example))
        self.example_title.setVisible(bool(example))


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
    if data.get("n_blank"):
        facts.append((tr("Left out because blank"), text.number(data["n_blank"])))
    if data.get("n_longer_than_sequence"):
        facts.append((tr("Longer than one sequence"), text.number(data["n_longer_than_sequence"])))
    return facts
