"""How much memory a training really took at its peak; may load torch, so nothing the window imports uses this."""

import threading
from contextlib import AbstractContextManager
from types import TracebackType

import psutil

from .. import platforms

_EVERY_SECONDS = 0.02


class PeakMemory(AbstractContextManager["PeakMemory"]):
    """Watches from entering on: on CUDA the allocator's own peak, on a CPU this process's resident memory.

    On a CPU it is read every 20 ms in a thread of its own, since the peak that a system keeps cannot be set back
    everywhere; a peak shorter than that may be missed.
    """

    def __enter__(self) -> "PeakMemory":
        self._process = psutil.Process()
        self._resident = self._process.memory_info().rss
        self._over = threading.Event()
        self._final: int | None = None
        self._thread: threading.Thread | None = None
        if _cuda():
            import torch

            torch.cuda.reset_peak_memory_stats()
        else:
            self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._final = self.n_bytes
        self._over.set()
        if self._thread:
            self._thread.join()

    @property
    def n_bytes(self) -> int:
        """The peak from entering to leaving, or to now, as `models.memory.Forecast.corrected` takes it."""
        if self._final is not None:
            return self._final
        if self._thread is None:
            import torch

            return torch.cuda.max_memory_reserved()
        self._look()
        return self._resident

    def _watch(self) -> None:
        while not self._over.wait(_EVERY_SECONDS):
            self._look()

    def _look(self) -> None:
        self._resident = max(self._resident, self._process.memory_info().rss)


def peak_memory_bytes() -> int:
    """The peak since this process began: the allocator's on CUDA; on a CPU peak RSS, as the system kept it."""
    if _cuda():
        import torch

        return torch.cuda.max_memory_reserved()
    return platforms.here().peak_resident_bytes()


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()
