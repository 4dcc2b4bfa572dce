"""Windows: plays AEGIS's own tone beside everything else. Not run anywhere yet: no Windows machine was at hand."""

import contextlib
import sys

from .tone import DONE


def play() -> None:
    """Returns at once; silent where the machine has no sound."""
    if sys.platform == "win32":
        import winsound

        with contextlib.suppress(RuntimeError):
            winsound.PlaySound(str(DONE), winsound.SND_FILENAME | winsound.SND_ASYNC | winsound.SND_NODEFAULT)
