"""What the gate brought: the gated training held against its controls, and whether the loss shows a transition.

"Not measured" and "not observed" are outcomes like any other and look as calm as they are.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from aegis_core import freshness
from aegis_core.plan import Plan, changed
from aegis_core.soul.transition import MIN_ORDERS, MIN_STEPS
from aegis_core.training.arms import Arm, wanted

from . import text
from . import theme as themes
from .facts import Facts
from .i18n import filled, mark, tr
from .panels import label, set_role
from .result_files import read_object
from .state import AppState
from .theme import Theme

BOTH = {"control.lora": True, "control.fixed": True}


@dataclass(frozen=True)
class Look:
    """How an outcome appears: word, icon, role of the word."""

    word: str
    icon: str
    role: str


LOOKS = {
    "helped": Look(mark("helped"), "ok", "pass"),
    "hurt": Look(mark("hurt"), "warning", "warn"),
    "no_difference": Look(mark("made no difference"), "dash", "secondary"),
    "observed": Look(mark("observed"), "ok", "pass"),
    "not_observed": Look(mark("not observed"), "dash", "secondary"),
    "not_measured": Look(mark("not measured"), "skipped", "secondary"),
}
REASONS = {
    "no_control": mark("It takes both comparisons."),
    "too_few_orders": mark("It takes at least {n_orders} data orders; {n_done} could be compared."),
    "too_few_steps": mark("It takes at least {n_steps} steps."),
    "zero_variance": mark("The losses of the trainings differ by no more than rounding."),
    "not_finite": mark("A loss is not a finite number."),
}
CLAIMS = {
    "gated_minus_lora": mark("Against LoRA alone"),
    "gated_minus_fixed": mark("Against a gate that is open from the start"),
    "transition": mark("A transition in the loss"),
}
ARMS = {
    "gated": mark("Held-out loss, gated"),
    "lora": mark("Held-out loss, LoRA alone"),
    "fixed": mark("Held-out loss, gate open from the start"),
}


class Outcome(QWidget):
    """Shape, claim and word; below, what was measured."""

    def __init__(self, claim: str) -> None:
        super().__init__()
        self._claim = claim
        self._theme = themes.LIGHT
        self.outcome = "not_measured"
        self.shape = QLabel()
        self.claim, self.word = label(role="strong", wraps=True), label()
        self.detail = label(role="secondary", wraps=True)
        self.detail.setFont(themes.tabular())
        self.detail.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 8, 0, 8)
        grid.setHorizontalSpacing(12)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(1, 1)
        grid.addWidget(self.shape, 0, 0)
        grid.addWidget(self.claim, 0, 1)
        grid.addWidget(self.word, 0, 2, Qt.AlignmentFlag.AlignRight)
        grid.addWidget(self.detail, 1, 1, 1, 2)

    def show_outcome(self, outcome: str, detail: str) -> None:
        """One of LOOKS, anything else counts as not measured; `detail` is already in the user's language."""
        self.outcome = outcome if outcome in LOOKS else "not_measured"
        look = LOOKS[self.outcome]
        colours = {"pass": self._theme.success, "warn": self._theme.warning}
        colour = colours.get(look.role, self._theme.secondary)
        self.shape.setPixmap(themes.icon(look.icon, colour).pixmap(QSize(16, 16)))
        self.claim.setText(tr(self._claim))
        self.word.setText(tr(look.word))
        set_role(self.word, look.role)
        self.detail.setText(detail)
        self.detail.setVisible(bool(detail))
        self.setAccessibleName(f"{self.claim.text()}: {self.word.text()}")
        self.setAccessibleDescription(detail)

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme


class Comparison(QWidget):
    """Shows control.json of the open run and offers to make it: `asked` comes with the settings that takes."""

    asked = Signal(object)  # {"section.field": value}

    def __init__(self, state: AppState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.state = state
        self.lead = label(role="secondary", wraps=True)
        self.rows = {name: Outcome(claim) for name, claim in CLAIMS.items()}
        self.losses = Facts()
        self.note = label(role="small", wraps=True)
        self.button = QPushButton()
        self.button.clicked.connect(lambda: self.asked.emit(dict(BOTH)))
        self.cost = label(role="small", wraps=True)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.lead)
        column.addSpacing(8)
        for row in self.rows.values():
            rule = QFrame()
            rule.setProperty("role", "rule")
            column.addWidget(rule)
            column.addWidget(row)
        column.addWidget(self.losses)
        column.addSpacing(8)
        column.addWidget(self.note)
        column.addSpacing(12)
        act = QHBoxLayout()
        act.setSpacing(16)
        act.addWidget(self.button)
        act.addWidget(self.cost, 1)
        column.addLayout(act)
        for signal in (state.plan_changed, state.flow_changed, state.run_opened):
            signal.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Read the files and show what they say, in the language of now."""
        found = read_object(self.state.run.step_folder("train") / "control.json") if self.state.run else {}
        paired, transition = _table(found, "paired"), _table(found, "transition")
        self.lead.setText(
            tr("The same training on the same data in the same order, without the gate and with the gate always open.")
        )
        for name in ("gated_minus_lora", "gated_minus_fixed"):
            pair = _table(paired, name)
            self.rows[name].show_outcome(str(pair.get("verdict", "")), _difference(pair))
        self.rows["transition"].show_outcome(str(transition.get("outcome", "")), _transition(transition))
        self.losses.show_facts(_losses(_table(found, "arms")))
        self.note.setText(
            tr(
                "Below zero the gated training is better; ± is the standard error. A difference within twice its "
                "error, or too small to matter, counts as none."
            )
        )
        self.note.setVisible(bool(paired))
        self._offer(bool(found))

    def set_theme(self, theme: Theme) -> None:
        for row in self.rows.values():
            row.set_theme(theme)
        self.refresh()

    # ---- what it takes

    def _offer(self, compared: bool) -> None:
        missing = self._missing()
        self.button.setText(tr("Run the comparison"))
        self.button.setEnabled(bool(missing) and self._can_add())
        self.cost.setText(self._cost(len(missing), compared))

    def _cost(self, n_missing: int, compared: bool) -> str:
        if self.state.busy:
            return tr("Possible once nothing is running.")
        if not self._can_add():
            return tr("Possible once this step is done. Or choose it in the settings, then it follows the training.")
        if not n_missing and compared:
            return tr("Every comparison that the settings ask for is there. More data orders can be chosen there.")
        seconds = self._training_seconds()
        if seconds is None:
            return filled("Trainings to be added: {n}. The finished one stays as it is.", n=n_missing)
        return filled(
            "Trainings to be added: {n}, together about {time}. The finished one stays as it is.",
            n=n_missing,
            time=text.roughly(seconds * n_missing),
        )

    def _missing(self) -> list[Arm]:
        """The trainings that the comparison still needs; the main one needs only to be measured."""
        if self.state.run is None:
            return []
        folder = self.state.run.step_folder("train")
        return [arm for arm in wanted(changed(self.state.plan, BOTH)) if not _is_there(arm, folder)]

    def _can_add(self) -> bool:
        """Whether there is a whole training that running the step again would only add to."""
        run, plan = self.state.run, self.state.plan
        if run is None or self.state.busy or self.state.flow.blocking("train"):
            return False
        return _is_whole(plan, self.state)

    def _training_seconds(self) -> float | None:
        if self.state.run is None:
            return None
        seconds = read_object(self.state.run.step_folder("train") / "summary.json").get("seconds_in_steps")
        return float(seconds) if isinstance(seconds, int | float) and seconds > 0 else None


def _is_there(arm: Arm, folder: Any) -> bool:
    return arm.is_finished(folder) or (arm.kind == "gated" and arm.order == 0)


def _is_whole(plan: Plan, state: AppState) -> bool:
    """The training is finished under these settings, or a comparison was stopped after it had been."""
    assert state.run is not None
    step = freshness.BY_ID["train"]
    done = state.run.done(step.id)
    if done is None:
        return (state.run.step_folder(step.id) / "adapter" / "adapter_config.json").is_file()
    return not freshness.misfits(state.run, plan, step, done)


def _table(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = found.get(name)
    return table if isinstance(table, Mapping) else {}


def _difference(pair: Mapping[str, Any]) -> str:
    if not pair:
        return ""
    error = pair["standard_error"]
    decimals = min(max(4, 1 - math.floor(math.log10(error))), 8) if error > 0 else 4  # the error is never a mere zero
    return filled(
        "{nats} ± {error} nats per held-out token; data orders: {n_orders}, tokens: {n_tokens}",
        nats=_signed(pair["nats"], decimals),
        error=text.fixed(error, decimals),
        n_orders=pair["n_orders"],
        n_tokens=text.number(pair["n_tokens"]),
    )


def _transition(found: Mapping[str, Any]) -> str:
    match found.get("outcome"):
        case "observed":
            return filled(
                "At step {step} (± {tolerance}), against both comparisons in {n_agreeing} of {n_orders} data orders: "
                "{lora} nats against LoRA alone, {fixed} nats against the open gate.",
                step=found["step"],
                tolerance=found["tolerance"],
                n_agreeing=found["n_agreeing"],
                n_orders=found["n_orders"],
                lora=_signed(found["sizes"]["lora"]),
                fixed=_signed(found["sizes"]["fixed"]),
            )
        case "not_observed":
            return filled(
                "In {n_agreeing} of {n_orders} data orders the loss changes at one step against both comparisons.",
                n_agreeing=found["n_agreeing"],
                n_orders=found["n_orders"],
            )
        case "not_measured" if found.get("reason") in REASONS:
            return filled(
                REASONS[found["reason"]], n_orders=MIN_ORDERS, n_steps=MIN_STEPS, n_done=found.get("n_orders", 0)
            )
    return filled(REASONS["too_few_orders"], n_orders=MIN_ORDERS, n_done=0)


def _losses(arms: Mapping[str, Any]) -> list[tuple[str, str]]:
    """One line per kind, its data orders one after the other."""
    shown: dict[str, list[str]] = {}
    for name, quality in arms.items():
        loss = f"{text.fixed(quality['loss'], 4)} ± {text.fixed(quality['standard_error'], 4)}"
        shown.setdefault(name.partition("-")[0], []).append(loss)
    return [(tr(ARMS[kind]), " · ".join(losses)) for kind, losses in shown.items() if kind in ARMS]


def _signed(nats: float, decimals: int = 4) -> str:
    shown = text.fixed(abs(nats), decimals)
    return shown if float(shown) == 0 else f"{'+' if nats > 0 else '−'}{shown}"
