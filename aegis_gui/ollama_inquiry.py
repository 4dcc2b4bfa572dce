"""What the window asks of Ollama, in a thread of its own: the window never waits for the network."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import QObject, QThread, Signal

from aegis_core.chat.ollama import OllamaClient
from aegis_core.chat.ollama_line import Line, heard
from aegis_core.chat.ollama_made import is_ours
from aegis_core.chat.ollama_state import OllamaState, look, start_ollama
from aegis_core.failures import explain


@dataclass(frozen=True)
class ModelRow:
    """A model that Ollama has; `ours` if AEGIS made it, `loaded_bytes` is 0 unless it is in memory."""

    name: str
    size_bytes: int
    ours: bool
    loaded_bytes: int = 0
    vram_bytes: int = 0


@dataclass(frozen=True)
class Found:
    """The state and, where Ollama answers, its models."""

    state: OllamaState
    models: tuple[ModelRow, ...] = ()


def find() -> Found:
    """UserError if Ollama answers at first and then does not."""
    state = look()
    if not state.usable:
        return Found(state)
    with OllamaClient(state.address) as client:
        loaded = {model.digest: model for model in client.loaded()}
        rows = []
        for model in client.models():
            held = loaded.get(model.digest)
            sizes = (held.size_bytes, held.vram_bytes) if held else (0, 0)
            rows.append(ModelRow(model.name, model.size_bytes, is_ours(client.base, model.name, model.digest), *sizes))
    return Found(state, tuple(rows))


def start(cancelled: Callable[[], bool]) -> Found:
    start_ollama(cancelled=cancelled)
    return find()


def unload(*names: str) -> Found:
    with OllamaClient() as client:
        for name in names:
            client.unload(name)
    return find()


def delete(name: str) -> Found:
    with OllamaClient() as client:
        client.delete(name)
    return find()


class Inquiries(QThread):
    """Does one thing after the other; each ends with `found` (a Found) or `refused` (a Failure)."""

    found = Signal(object)
    refused = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._jobs: queue.SimpleQueue[Callable[[], Found] | None] = queue.SimpleQueue()
        self._ended = threading.Event()

    def ask(self, job: Callable[[], Found]) -> None:
        """Have it done; the thread starts with the first."""
        self._jobs.put(job)
        if not self.isRunning() and not self._ended.is_set():
            super().start()

    @property
    def cancelled(self) -> bool:
        return self._ended.is_set()

    def run(self) -> None:
        while (job := self._jobs.get()) is not None and not self.cancelled:
            self._do(job)

    def shut_down(self) -> None:
        """No thread that this program would wait for is left; an answer that is still on its way is not awaited."""
        self._ended.set()
        self._jobs.put(None)
        self.wait()

    def _do(self, job: Callable[[], Found]) -> None:
        def talk(line: Line) -> None:
            line.say(job())

        try:
            for found in heard(talk, self._ended.is_set):
                self.found.emit(found)
        except Exception as error:  # the thread's boundary: whatever it was becomes a sentence
            self.refused.emit(explain(error))
