"""A limit of time and memory for the first rendering of a chat template that came with a model.

transformers renders in Jinja's sandbox, which keeps a template from everything but time and memory: a loop in a loop,
or a text doubled forty times, would hold up the engine or take it down. A template is a small program of somebody
else's, so it is tried once under watch before anything is built on it.
"""

import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import psutil

from ..failures import UserError

MOST_SECONDS, MOST_BYTES = 5.0, 500_000_000
_COMPILED = "<template>"  # what Jinja calls the code it made of a template


class _TooMuch(Exception):
    """Raised into the template's code; no UserError, which a caller might take for the template's own refusal."""


def under_watch(render: Callable[[], object], seconds: float = MOST_SECONDS, n_bytes: int = MOST_BYTES) -> None:
    """Call `render`; UserError as soon as template code has run for that long, or memory has grown by that much."""
    process = psutil.Process()
    deadline, most = time.monotonic() + seconds, process.memory_info().rss + n_bytes

    def watch(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != _COMPILED:
            return None
        if time.monotonic() > deadline or process.memory_info().rss > most:
            raise _TooMuch
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        render()
    except (_TooMuch, MemoryError) as error:
        raise UserError(
            "The chat template of this model takes more time or memory than any conversation needs.",
            "Do not use this model; download it from a source you trust.",
        ) from error
    finally:
        sys.settrace(before)
