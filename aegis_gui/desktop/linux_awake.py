"""Linux: asks logind through systemd-inhibit to stay awake; without it (or without logind) nothing happens."""

import shutil
import subprocess

_PATIENCE_SECONDS = 2.0


class SleepInhibitor:
    """Held by a `cat` that reads from this program: however this program ends, its input ends and so does the hold."""

    def __init__(self) -> None:
        self._holder: subprocess.Popen[bytes] | None = None

    def hold(self) -> None:
        program = shutil.which("systemd-inhibit")
        if self._holder or program is None:
            return
        wish = ("--what=sleep:idle", "--mode=block", "--who=AEGIS", "--why=A step is running")
        nothing = subprocess.DEVNULL
        self._holder = subprocess.Popen(
            [program, *wish, "cat"], stdin=subprocess.PIPE, stdout=nothing, stderr=nothing, start_new_session=True
        )

    def release(self) -> None:
        if self._holder is None:
            return
        holder, self._holder = self._holder, None
        assert holder.stdin is not None
        holder.stdin.close()
        try:
            holder.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            holder.kill()
            holder.wait()
