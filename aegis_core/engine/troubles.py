"""What nobody foresaw in the set-up of an engine: its trace belongs to no run, so it goes to the set-up's own log."""

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

from ..addresses import shown_address
from ..cancel import Cancelled
from ..failures import UserError, sentence


@contextlib.contextmanager
def traced_in(log: Path) -> Iterator[None]:
    """Any error but a foreseen one becomes a UserError that names `log`, where its trace then stands."""
    try:
        yield
    except (UserError, Cancelled):
        raise
    except Exception as error:  # the boundary of the set-up
        trace = shown_address("".join(traceback.format_exception(error)))
        with contextlib.suppress(OSError):  # of a full disk it cannot be written; the sentence is what matters
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a", encoding="utf-8") as file:
                file.write(f"\n{trace}")
        raise sentence(error, log) from error
