"""A window's hold on the run it shows, so that a second window on the same run can say so."""

from filelock import FileLock, Timeout

from aegis_core.failures import UserError
from aegis_core.run_directory import RunDirectory


class Claim:
    """At most one run; the system lets go of it however the program ends."""

    def __init__(self) -> None:
        self._lock: FileLock | None = None
        self.held = False

    def take(self, run: RunDirectory) -> bool:
        """Let go of the run before and take this one; False if another window has it.

        A folder that cannot be written is nobody's: nothing can be changed there anyway.
        """
        self.drop()
        lock = FileLock(run.path / "window.lock", timeout=0)
        try:
            lock.acquire()
            self._lock = lock
        except Timeout:
            return False
        except OSError:
            self._lock = None
        self.held = True
        return True

    def drop(self) -> None:
        if self._lock:
            self._lock.release()
        self._lock, self.held = None, False


def other_window(run: RunDirectory) -> UserError:
    return UserError(
        "Another AEGIS window has {run} open; here it can only be looked at.",
        "Go on there, or close it there.",
        run=run.path.name,
    )


def other_engine(run: RunDirectory) -> UserError:
    """A terminal's, or that of a window that was killed and which is still saving."""
    return UserError(
        "Another AEGIS is working on {path}.", "Wait until it has finished, or stop it there.", path=run.path
    )
