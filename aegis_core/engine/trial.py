"""Whether an environment's Python starts, and whether it can import what the engine is built on."""

import os
from collections.abc import Sequence

from ..cancel import CancelToken
from ..failures import UserError
from .command import own_environment
from .parts import Parts
from .place import Place
from .watched import Ended, heard_out

LONGEST_SECONDS = 600.0
_IMPORTS = "import torch, transformers, peft, datasets, optuna, gguf, xllamacpp, aegis_core; print(torch.__version__)"


def answers(place: Place, parts: Parts, cancel: CancelToken) -> bool:
    """Whether the environment has a Python of the right version that starts; UserError if it takes too long to tell."""
    if not place.python.exists():
        return False
    code = f"import sys; raise SystemExit(sys.version_info[:2] != {parts.python_version})"
    try:
        return _ended(place, ["-I", "-c", code], cancel).code == 0
    except OSError:
        return False


def tried(place: Place, cancel: CancelToken) -> str:
    """The version of torch, once everything the engine is built on has been imported; UserError if that fails."""
    done = _ended(place, ["-P", "-c", _IMPORTS], cancel)
    with place.log.open("a", encoding="utf-8") as log:
        log.write(done.out + done.err)
    if done.code:
        words = (done.err.strip().splitlines() or [f"exit code {done.code}"])[-1][:300]
        raise UserError(
            "The engine is set up but does not start: {problem}",
            "Repair it in the settings; if it stays so, the whole trace is in {log}.",
            problem=words,
            log=place.log,
        )
    return done.out.strip().splitlines()[-1]


def _ended(place: Place, arguments: Sequence[str], cancel: CancelToken) -> Ended:
    environment = {**own_environment(os.environ), "PYTHONUTF8": "1"}
    try:
        return heard_out([str(place.python), *arguments], environment, cancel, LONGEST_SECONDS)
    except TimeoutError as slow:
        raise UserError(
            "The engine did not start within {minutes} minutes.",
            "A virus scanner may be reading its files for the first time: wait a little and try again.",
            minutes=f"{LONGEST_SECONDS / 60:.0f}",
        ) from slow
