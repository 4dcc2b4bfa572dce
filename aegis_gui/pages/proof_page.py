"""A step page whose heart is a list of measured claims that fills while the step runs."""

from PySide6.QtWidgets import QWidget

from aegis_core.events import Event, StepFinished, Verdict

from ..panels import Section
from ..run_view import RunView
from ..state import AppState
from ..theme import Theme
from ..verdicts import VerdictRows
from .step_page import StepPage


class ProofPage(StepPage):
    """`proof` shows the step's verdicts; subclasses add what else there is and redraw it in `draw`."""

    def __init__(self, state: AppState, title: str, parent: QWidget | None = None) -> None:
        super().__init__(state, parent)
        self.proof = Section(title)
        self.rows = VerdictRows()
        self.proof.body.addWidget(self.rows)

    def draw(self, view: RunView) -> None:
        """Show what the run holds now."""
        verdicts = view.step(self.step).verdicts
        self.rows.show_verdicts(verdicts.values())
        self.proof.setVisible(bool(verdicts))

    def on_event(self, event: Event) -> None:
        super().on_event(event)
        if isinstance(event, Verdict):
            self.rows.add(event)
            self.proof.show()
        elif isinstance(event, StepFinished):
            self.draw(self.state.view)

    def show_run(self, view: RunView) -> None:
        super().show_run(view)
        self.draw(view)

    def set_theme(self, theme: Theme) -> None:
        super().set_theme(theme)
        self.rows.set_theme(theme)

    def retranslate(self) -> None:
        super().retranslate()
        self.draw(self.state.view)
