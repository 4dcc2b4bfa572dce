"""Step 7 on screen: what the GGUF files will take, what was written, and every check of it."""

from pathlib import Path
from typing import Any

from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QWidget

from aegis_core.events import Event, Log, Verdict
from aegis_core.failures import UserError
from aegis_core.gguf_export.file_types import FILE_TYPES
from aegis_core.gguf_export.size_estimate import SizeEstimate, estimate_sizes
from aegis_core.hardware import disk_free_bytes
from aegis_core.models.identity import read_base
from aegis_core.models.shape import read_shape
from aegis_core.run_directory import read_json

from .. import text
from .. import theme as themes
from ..export_tables import FilesTable, ForecastTable
from ..facts import Facts
from ..form import Form
from ..i18n import filled, mark, tr
from ..panels import Section, label, set_role
from ..result_files import read_object
from ..run_view import RunView
from ..state import AppState
from ..theme import Theme
from .fuse import STAGES
from .proof_page import ProofPage

# What the step says of sizes and time before it writes, counted tensor by tensor and measured on this machine.
TOLD = (
    "{file} will have {size} GB ({formats}).",
    "Writing takes about {seconds} seconds, quantising with {quantiser}; all files are written in one pass.",
)


class ExportPage(ProofPage):
    step = "export"
    sentence = mark(
        "Writes the fused model as GGUF, first in 16 bits, then quantised, and reads every file back to verify it."
    )

    def __init__(self, state: AppState, parent: QWidget | None = None) -> None:
        super().__init__(state, mark("Verification"), parent)
        self.files = Section(mark("Files"))
        self.table = FilesTable()
        self.facts = Facts()
        self.open = QPushButton()
        self.open.clicked.connect(self._open_folder)
        button_row = QHBoxLayout()
        button_row.addWidget(self.open)
        button_row.addStretch(1)
        self.files.body.addWidget(self.table)
        self.files.body.addWidget(self.facts)
        self.files.body.addLayout(button_row)
        settings = Section(mark("What to write"))
        settings.body.addWidget(Form(state, ("export.types", "export.directory")))
        self.forecast = Section(mark("What it will take"))
        self.sizes = ForecastTable()
        self.space = label(wraps=True)
        self.told = label(role="secondary", wraps=True)
        for widget in (self.sizes, self.space, self.told):
            self.forecast.body.addWidget(widget)
        for section in (self.files, settings, self.forecast, self.proof):
            self.body.addWidget(section)
        state.flow_changed.connect(self._draw_forecast)

    def plan_changed(self) -> None:
        super().plan_changed()
        self._draw_forecast()

    def on_event(self, event: Event) -> None:
        super().on_event(event)
        if isinstance(event, Log):
            self._draw_told()

    def set_theme(self, theme: Theme) -> None:
        super().set_theme(theme)
        self.open.setIcon(themes.icon("folder", theme.text))
        self.table.set_theme(theme)
        self.table.show_files(self._written())

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
        files = self._written()
        attempt = view.step(self.step)
        if not attempt.verdicts and not attempt.running:
            rows = [_verdict(file, check) for file in files for check in file.get("checks", [])]
            self.rows.show_verdicts(rows)
            self.proof.setVisible(bool(rows))
        self.table.show_files(files)
        self.facts.show_facts(self._losses())
        self.files.setVisible(bool(files))
        self._draw_forecast()

    def _draw_forecast(self) -> None:
        sizes = self._estimates()
        self.sizes.show_sizes(sizes)
        free = disk_free_bytes(self.folder) if self.folder else None
        need = sum(size.n_bytes for size in sizes)
        short = free is not None and need > free
        self.forecast.setVisible(self.state.run is not None)
        set_role(self.space, "fail" if short else "secondary")
        if not sizes:
            said = [tr("Not known yet: the base model has to be prepared first.")]
        elif short:
            said = [filled("Too little room: {need} are needed.", need=text.size(need))]
        else:
            said = []
        if free is not None:
            said.append(filled("{free} free on that drive.", free=text.size(free)))
        self.space.setText(" ".join(said))
        self._draw_told()

    def _draw_told(self) -> None:
        """The step's own forecast, once it has made one."""
        logged = [event for event in self.state.view.log if isinstance(event, Log) and event.stage == self.step]
        lines = [filled(event.template, event.values) for event in logged if event.template in TOLD]
        latest = list(dict.fromkeys(lines))[-len(FILE_TYPES) - 1 :]
        waiting = tr("The exact sizes and the time on this machine are told as the step begins, before it writes.")
        self.told.setText("\n".join(latest) or waiting)

    def _estimates(self) -> list[SizeEstimate]:
        """Sizes of the chosen types; none where the base is not prepared, or its kind is not known."""
        if self.state.run is None:
            return []
        try:
            base = read_base(self.state.run)
            return estimate_sizes(read_shape(base.path), self.state.plan.export.types)
        except (UserError, OSError, ValueError, TypeError):
            return []

    def _written(self) -> list[dict[str, Any]]:
        path = self.state.run.step_folder(self.step) / "files.json" if self.state.run else None
        if path is None or not path.is_file():
            return []
        try:
            found = read_json(path)
        except (UserError, ValueError):
            return []
        return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []

    def _losses(self) -> list[tuple[str, str]]:
        if self.state.run is None:
            return []
        measured = read_object(self.state.run.step_folder(self.step) / "quality.json")
        return [
            (
                filled("Held-out loss, {stage}", stage=tr(name)),
                filled("{loss} nats", loss=text.number(measured[stage]["loss"])),
            )
            for stage, name in STAGES
            if stage in measured
        ]

    def _open_folder(self) -> None:
        if self.folder:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.folder)))


def _verdict(file: dict[str, Any], check: dict[str, Any]) -> Verdict:
    kind = str(file.get("type"))
    label_ = FILE_TYPES[kind].label if kind in FILE_TYPES else kind
    status = "pass" if check["passed"] else "fail"
    return Verdict(f"{label_}: {check['name']}", status, str(check["measured"]), str(check["expected"]))
