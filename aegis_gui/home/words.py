"""What a run's card says: where it stands, in words and with a shape, and when something last happened."""

from PySide6.QtCore import QDate, QDateTime, QLocale

from aegis_core.failures import UserError
from aegis_core.plan import DEMO
from aegis_core.run_card import RunCard, Standing

from .. import text
from ..i18n import filled, mark, tr
from ..quality_chain import STAGES
from ..theme import Theme

ICONS = {
    Standing.NEW: "circle",
    Standing.UNDER_WAY: "half",
    Standing.RUNNING: "running",
    Standing.CUT_OFF: "stop",
    Standing.FAILED: "cross",
    Standing.OUTDATED: "stale",
    Standing.DONE: "check",
    Standing.DAMAGED: "warning",
}
SENTENCES = {
    Standing.NEW: mark("not begun"),
    Standing.UNDER_WAY: mark("next: {step}"),
    Standing.RUNNING: mark("running: {step}"),
    Standing.CUT_OFF: mark("stopped in {step}"),
    Standing.FAILED: mark("failed in {step}"),
    Standing.OUTDATED: mark("outdated from {step} on"),
    Standing.DONE: mark("finished"),
    Standing.DAMAGED: mark("cannot be opened"),
}
SHORT_STAGES = {"base": mark("base"), "fused": mark("fused"), "q4_k_m": mark("Q4_K_M")}
MINUTE, HOUR, DAY = 60, 3600, 86400  # seconds


def standing_words(run: RunCard) -> str:
    """Where it stands: "stopped in Soul injection · 231 of 500 steps"."""
    step = tr(text.STEP_TITLES[run.step]) if run.step else ""
    said = filled(SENTENCES[run.standing], step=step)
    if run.n_of_step and run.n_of_step[2] == "steps":
        done, total = (text.number(int(count)) for count in run.n_of_step[:2])
        return f"{said} · {filled('{done} of {total} steps', done=done, total=total)}"
    if run.standing is Standing.UNDER_WAY:
        return f"{said} · {filled('{done} of {total} steps done', done=run.n_done, total=run.n_steps)}"
    return said


def standing_colour(run: RunCard, theme: Theme) -> str:
    """Of the shape only: the words beside it say the same."""
    colours = {
        Standing.DONE: theme.success,
        Standing.FAILED: theme.danger,
        Standing.DAMAGED: theme.danger,
        Standing.CUT_OFF: theme.warning,
        Standing.OUTDATED: theme.warning,
        Standing.RUNNING: theme.text,
    }
    return colours.get(run.standing, theme.secondary)


def model_words(run: RunCard) -> str:
    if run.plan is None:
        return ""
    source = run.plan.model.source
    return tr("embedded demo model") if source == DEMO else source


def problem_words(run: RunCard) -> str:
    """Why it cannot be opened, and what to do here; "" if it can."""
    if run.problem is None:
        return ""
    reason = filled(run.problem.reason_template, run.problem.values)
    return f"{reason} {tr('Open its folder to mend it, or delete the run.')}"


def sentence(error: UserError) -> str:
    """What is wrong and what to do about it, in the window's language."""
    parts = (error.reason_template, error.advice_template)
    return " ".join(filled(part, error.values) for part in parts if part)


def unwritable(error: OSError) -> UserError:
    """What the system refused while something was to be written."""
    return UserError(
        "The folder cannot be written: {problem}.",
        "Choose another one.",
        problem=error.strerror or type(error).__name__,
    )


def stage_words(stage: str) -> str:
    """The short name of a stage of the quality chain."""
    return tr(SHORT_STAGES.get(stage, STAGES.get(stage, stage)))


def when(seconds: float, now: QDateTime | None = None) -> str:
    """A moment as a person says it: just now, 5 minutes ago, yesterday 21:40, Monday 21:40, 3 November 2026."""
    moment = QDateTime.fromSecsSinceEpoch(int(seconds))
    present = now or QDateTime.currentDateTime()
    past = moment.secsTo(present)
    if past < MINUTE:
        return tr("just now")
    if past < HOUR:
        return tr("a minute ago") if past < 2 * MINUTE else filled("{n} minutes ago", n=past // MINUTE)
    days = moment.date().daysTo(present.date())
    if days == 0 or past < 6 * HOUR:
        return tr("an hour ago") if past < 2 * HOUR else filled("{n} hours ago", n=past // HOUR)
    clock = moment.time().toString("H:mm")
    if days == 1:
        return filled("yesterday, {time}", time=clock)
    if days < 7:
        return filled("{weekday}, {time}", weekday=_weekday(moment.date()), time=clock)
    return QLocale().toString(moment.date(), tr("d MMMM yyyy"))


def _weekday(day: QDate) -> str:
    return QLocale().standaloneDayName(day.dayOfWeek())
