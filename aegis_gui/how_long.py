"""What a page says of the time its step takes on this machine: measured, or that nobody has measured it yet."""

from aegis_core import pace

from . import text
from .flow import Status
from .i18n import filled, tr
from .state import AppState

BRIEF_SECONDS = 50
BRIEF_STEPS = ("check", "report")  # a matter of seconds everywhere: nobody has to wait for the first time to know


def sentence(state: AppState, step: str) -> str:
    """One sentence in the window's language; "" where there is no run, the step is switched off, or at work: then the
    time left stands above."""
    status = state.status(step)
    if state.run is None or status in (Status.EMPTY, Status.DISABLED, Status.RUNNING, Status.PAUSED):
        return ""
    if status is Status.DONE and (done := state.run.done(step)):
        return filled("It took {time}.", time=_unbroken(text.duration(done.seconds)))
    expected = pace.expected(state.run, state.plan, step)
    if expected is None:
        return "" if step in BRIEF_STEPS else tr("How long it takes here is known after the first time.")
    if expected.seconds < BRIEF_SECONDS:
        return tr("It takes less than a minute here.")
    if expected.alike:
        return filled("It takes about {time} here, as it did before.", time=_unbroken(text.roughly(expected.seconds)))
    return filled(
        "Judging by earlier runs, it takes about {time} here.", time=_unbroken(text.roughly(expected.seconds))
    )


def _unbroken(time: str) -> str:
    """No line ends between a figure and its unit."""
    return time.replace(" ", "\N{NO-BREAK SPACE}")
