"""Step 9 on screen: the verdict on the whole ritual, and the way to its run log."""

from collections.abc import Mapping
from typing import Any

from PySide6.QtWidgets import QWidget

from aegis_core.events import Event, StepFinished

from .. import text
from ..checklist import Checklist
from ..form import Form
from ..i18n import filled, mark, tr
from ..panels import Section, label
from ..quality_chain import QualityChain
from ..result_files import read_object
from ..run_log_files import RunLogFiles
from ..run_view import RunView
from ..state import AppState
from ..theme import Theme
from .step_page import StepPage


class ReportPage(StepPage):
    step = "report"
    sentence = mark("Every claim of this run with the figure that proves it, in one file that can be passed on.")

    def __init__(self, state: AppState, parent: QWidget | None = None) -> None:
        super().__init__(state, parent)
        self.checklist, self.chain, self.log = Checklist(), QualityChain(), RunLogFiles()
        self.gaps = label(role="secondary", wraps=True)
        self.success = Section(mark("Success indicators"))
        self.success.body.addWidget(self.checklist)
        self.success.body.addWidget(self.gaps)
        self.quality = Section(mark("Quality at every stage"))
        self.quality.body.addWidget(self.chain)
        self.files = Section(mark("Run log"))
        self.files.body.addWidget(self.log)
        self.files.body.addWidget(Form(state, ("report.language",)))
        for section in (self.success, self.quality, self.files):
            self.body.addWidget(section)

    def on_event(self, event: Event) -> None:
        super().on_event(event)
        if isinstance(event, StepFinished):
            self._draw()

    def show_run(self, view: RunView) -> None:
        super().show_run(view)
        self._draw()

    def set_theme(self, theme: Theme) -> None:
        super().set_theme(theme)
        self.checklist.set_theme(theme)
        self.log.set_theme(theme)

    def retranslate(self) -> None:
        super().retranslate()
        self.checklist.retranslate()
        self.chain.retranslate()
        self.log.retranslate()
        self._draw()

    def _draw(self) -> None:
        report = read_object(self.state.run.path / "report.json") if self.state.run else {}
        self.checklist.show_indicators(_table(report, "indicators"))
        self.chain.show_quality(_table(report, "quality"))
        self.quality.setVisible(bool(_table(report, "quality")))
        self.log.show_run(self.state.run.path if self.state.run else None)
        self._draw_gaps(report)

    def _draw_gaps(self, report: Mapping[str, Any]) -> None:
        """The steps whose result was missing or outdated when the log was written."""
        found = report.get("gaps")
        steps = (
            [tr(text.STEP_TITLES[step]) for step in found if step in text.STEP_TITLES]
            if isinstance(found, list)
            else []
        )
        self.gaps.setText(filled("Gaps in the run log: {steps}.", steps=", ".join(steps)) if steps else "")
        self.gaps.setVisible(bool(steps))


def _table(report: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = report.get(name)
    return found if isinstance(found, dict) else {}
