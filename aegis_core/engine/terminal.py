"""`aegis` for the terminal of somebody who installed the frozen window: a small program beside it.

`aegis engine …` is done here, where uv and AEGIS's wheel are; every other command is handed to the engine.
"""

import subprocess
import sys

from .. import platforms
from ..failures import UserError
from .command import engine_command, engine_environment

OWN = "engine"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == [OWN]:
        from ..cli import main as in_this_program

        return in_this_program(words)
    try:
        command = engine_command(*words)
    except UserError as error:
        print(error.reason, error.advice, sep="\n", file=sys.stderr)
        return 1
    with platforms.here().apart():
        child = subprocess.Popen(command, env=engine_environment(), **platforms.here().in_terminal())
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:  # the child got it as well, saves and ends
            continue
