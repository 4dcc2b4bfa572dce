"""Step 7 on screen: the GGUF files, read back and verified."""

from pathlib import Path
from typing import Any

from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from aegis_core.hardware import disk_free_bytes
from aegis_core.run_directory import read_json

from .. import text
from .. import theme as themes
from ..facts import Facts
from ..form import Form
from ..i18n import filled, mark, tr
from ..panels import Section, label
from ..run_view import RunView
from ..state import AppState
from ..theme import Theme
from .fuse import STAGES
from .proof_page import ProofPage


class ExportPage(ProofPage):
    step = "export"
    sentence = mark(
        "Writes the fused model as GGUF, first in 16 bits, then quantised, and reads every file back to verify it."
    )

    def __init__(self, state: AppState, parent: QWidget | None = None) -> None:
        super().__init__(state, mark("Verification"), parent)
        self.files = Section(mark("Files"))
        self.file_rows = QVBoxLayout()
        self.facts = Facts()
        self.open = QPushButton()
        self.open.clicked.connect(self._open_folder)
        button_row = QHBoxLayout()
        button_row.addWidget(self.open)
        button_row.addStretch(1)
        self.files.body.addLayout(self.file_rows)
        self.files.body.addWidget(self.facts)
        self.files.body.addLayout(button_row)
        settings = Section(mark("What to write"))
        settings.body.addWidget(Form(state, ("export.types", "export.directory")))
        self.space = label(role="secondary", wraps=True)
        settings.body.addWidget(self.space)
        for section in (self.files, self.proof, settings):
            self.body.addWidget(section)

    def plan_changed(self) -> None:
        super().plan_changed()
        self._draw_space()

    def set_theme(self, theme: Theme) -> None:
        super().set_theme(theme)
        self.open.setIcon(themes.icon("folder", theme.text))

    def retranslate(self) -> None:
        super().retranslate()
        self.open.setText(tr("Open the folder"))

    @property
    def folder(self) -> Path | None:
        """Where the files go."""
        if self.state.run is None:
            return None
        chosen = self.state.plan.export.directory
        return Path(chosen).expanduser() if chosen else self.state.run.step_folder(self.step)

    def draw(self, view: RunView) -> None:
        super().draw(view)
        facts = self._written()
        self.facts.show_facts(facts)
        self.files.setVisible(bool(facts))
        self._draw_space()

    def _draw_space(self) -> None:
        free = disk_free_bytes(self.folder) if self.folder else None
        self.space.setVisible(free is not None)
        self.space.setText(filled("{free} free on that drive.", free=text.size(free)))

    def _written(self) -> list[tuple[str, str]]:
        path = self.state.run.step_folder(self.step) / "files.json" if self.state.run else None
        if path is None or not path.is_file():
            return []
        facts = [(Path(file["path"]).name, _file_words(file)) for file in read_json(path)]
        quality = path.with_name("quality.json")
        if quality.is_file():
            measured = read_json(quality)
            for stage, name in STAGES:
                if stage in measured:
                    loss = text.number(measured[stage]["loss"])
                    facts.append((filled("Held-out loss, {stage}", stage=tr(name)), filled("{loss} nats", loss=loss)))
        return facts

    def _open_folder(self) -> None:
        if self.folder:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.folder)))


def _file_words(file: dict[str, Any]) -> str:
    passed = sum(bool(check["passed"]) for check in file["checks"])
    return filled(
        "{size}, {tensors} tensors, {passed} of {checks} checks passed, SHA-256 {sha}…",
        size=text.size(file["bytes"]),
        tensors=file["n_tensors"],
        passed=passed,
        checks=len(file["checks"]),
        sha=file["sha256"][:16],
    )
