"""Programs that the set-up runs: heard to their end, and ended with all they started when told to stop or too slow."""

import math
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import platforms
from ..cancel import CancelToken
from ..child import kill_tree

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Ended:
    """How a program ended and what it wrote to stdout and stderr."""

    code: int
    out: str
    err: str


def heard_out(
    command: Sequence[str], environment: Mapping[str, str], cancel: CancelToken, seconds: float = math.inf
) -> Ended:
    """Run a program that has no input. Cancelled a fraction of a second after being told to stop, TimeoutError after
    `seconds`: then nothing of it runs any more. OSError if it cannot be started."""
    cancel.check()
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    how = {**pipes, **platforms.here().engine()}
    last = time.monotonic() + seconds
    with platforms.here().apart():
        begun = subprocess.Popen(list(command), env=dict(environment), encoding="utf-8", errors="replace", **how)
    with begun as process:
        bond = platforms.here().take_along(process)
        while True:
            try:
                out, err = process.communicate(timeout=_POLL_SECONDS)
                bond.release()
                return Ended(process.returncode, out, err)
            except subprocess.TimeoutExpired as slow:
                if cancel.cancelled or time.monotonic() > last:
                    kill_tree(process.pid, bond)
                    cancel.check()
                    raise TimeoutError(f"{command[0]} ran longer than {seconds:.0f} s") from slow
