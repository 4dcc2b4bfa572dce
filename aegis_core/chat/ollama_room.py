"""Room for what comes: graphics memory before a step that trains, disk before a model is uploaded."""

from collections.abc import Callable
from pathlib import Path

from ..events import Event, note, warning
from ..failures import UserError
from ..hardware import disk_free_bytes
from .ollama import LoadedModel, OllamaClient
from .ollama_address import is_loopback
from .ollama_made import is_ours
from .ollama_program import models_folder
from .ollama_state import look

GB = 1e9
SPARE_BYTES = 200_000_000  # for everything else that writes to that drive meanwhile


def free_memory(emit: Callable[[Event], None]) -> None:
    """Take the models that AEGIS made out of the memory of an Ollama on this machine; name the others with what they
    hold. Nothing happens where none answers, and a refusal is only told: a step does not fail for it."""
    state = look()
    if not state.usable or not is_loopback(state.address):
        return
    try:
        with OllamaClient(state.address) as client:
            for model in client.loaded():
                _free(client, model, emit)
    except UserError as error:
        emit(warning("Ollama may still hold memory: {problem}", problem=error.reason))


def require_disk_space(size_bytes: int, base: str, emit: Callable[[Event], None], folder: Path | None = None) -> None:
    """UserError if the drive of a server on this machine cannot take a file of that size; warned where it would not
    take the second copy either that Ollama writes when it has to convert the file."""
    if not is_loopback(base):
        return
    folder = folder or models_folder()
    free = disk_free_bytes(folder)
    if free is None:
        return
    if free < size_bytes + SPARE_BYTES:
        raise UserError(
            "Ollama's copy of the model needs {needed} GB, but only {free} GB are free at {folder}.",
            "Free some space there, delete models in Ollama, or set chat.backend to embedded, which needs no copy.",
            needed=f"{size_bytes / GB:.2f}",
            free=f"{free / GB:.2f}",
            folder=folder,
        )
    if free < 2 * size_bytes + SPARE_BYTES:
        emit(
            warning(
                "Only {free} GB are free at {folder}: Ollama needs {needed} GB for its copy of the model, and as much "
                "again for a while if it converts it.",
                free=f"{free / GB:.2f}",
                folder=folder,
                needed=f"{size_bytes / GB:.2f}",
            )
        )
        return
    emit(
        note(
            "Ollama keeps a copy of the model: {needed} GB at {folder}.", needed=f"{size_bytes / GB:.2f}", folder=folder
        )
    )


def _free(client: OllamaClient, model: LoadedModel, emit: Callable[[Event], None]) -> None:
    if is_ours(client.base, model.name, model.digest):
        client.unload(model.name)
        emit(note("Ollama has let go of {model}.", model=model.name))
    elif model.vram_bytes:
        emit(
            warning(
                "Ollama holds {size} GB of graphics memory with {model}, which AEGIS did not make; unload it if memory "
                "gets short.",
                size=f"{model.vram_bytes / GB:.1f}",
                model=model.name,
            )
        )
