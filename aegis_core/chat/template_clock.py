"""A chat template's clock, stopped: templates that state the date state a given one, again and again.

transformers gives templates a function strftime_now of its own; a macro of that name takes its place.
"""

import re
from datetime import datetime

_ASKS = "strftime_now"
_CALL = re.compile(_ASKS + r"\s*\(\s*(?:'([^'\\]*)'|\"([^\"\\]*)\")\s*\)")
# The line break after a block is no output, and what follows stands at the beginning of a line, as before.
_STOPPED = "{% macro strftime_now(format) %}{{ stopped_clock[format] }}{% endmacro %}\n"


def asks_for_date(template: str) -> bool:
    return _ASKS in template


def can_be_stopped(template: str) -> bool:
    """Whether every question for the date has its form written out."""
    return len(_CALL.findall(template)) == len(re.findall(_ASKS + r"\s*\(", template)) > 0


def stopped(template: str) -> str:
    """The template, asking `readings` for the date."""
    return _STOPPED + template


def readings(template: str, now: datetime) -> dict[str, dict[str, str]]:
    """What the stopped template is to be given besides: `now` in each form it asks for."""
    forms = {single or double for single, double in _CALL.findall(template)}
    return {"stopped_clock": {form: now.strftime(form) for form in forms}}
