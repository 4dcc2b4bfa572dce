"""Ollama dies, hangs up or talks nonsense at each thing it is asked for."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aegis_core.plan import changed

from .dose import Dose
from .engine import forked
from .judge import Trial, drafts, false_claims, refused_clearly, users_files_lost
from .ritual import MODEL, Reference
from .servers import serving

FAULT = "Ollama dying"
HOW = (
    "The chat step speaks to a local server with Ollama's API, which at one kind of request answers an error, breaks "
    "off, talks nonsense or is gone for good (connections refused from then on). The step must say so in one "
    "sentence, or answer as if nothing had been; then the server is well and the plain command must finish."
)
REQUESTS = ("version", "tags", "blobs", "create", "show", "render", "chat", "ps")
WAYS = ("dies", "500", "cut", "ends early", "malformed", "error line")


def trials(reference: Reference, dose: Dose, log: Path) -> Iterator[Trial]:
    for number, (request, way) in enumerate((r, w) for r in REQUESTS for w in WAYS):
        if not dose.is_short or number % 24 == 0:
            yield Trial(FAULT, request, dose.seed, "; ".join(_trial(reference, request, way, log)), way)


def _trial(reference: Reference, request: str, way: str, log: Path) -> list[str]:
    run = reference.set_out("chat")
    run.write_plan(changed(run.plan(), {"chat.backend": "ollama"}))
    command = ["run", str(run.path), "--only", "chat"]
    problems: list[str] = []
    with serving(_failing(reference.folder / MODEL, request, way), log) as told:
        log.unlink(missing_ok=True)
        attempt = forked(command, log, environment={"OLLAMA_HOST": told["address"]})
        if attempt.wait() != 0:
            problems += refused_clearly(attempt, "Ollama", told["address"])
        problems += [*false_claims(run), *users_files_lost(run)]
    with serving(_failing(reference.folder / MODEL, "", ""), log) as told:
        log.unlink(missing_ok=True)
        attempt = forked(command, log, environment={"OLLAMA_HOST": told["address"]})
        if attempt.wait() != 0:
            problems.append(f"exit {attempt.exit_code} when it is well again: {attempt.said()[-300:]}")
    return [*problems, *false_claims(run), *drafts(run)]


def _failing(model: Path, request: str, way: str) -> Callable[[Callable[[dict[str, Any]], None]], None]:
    def work(tell: Callable[[dict[str, Any]], None]) -> None:
        from fake_ollama import FakeOllama

        from aegis_core.chat.prompt import ChatPrompts

        prompts = ChatPrompts(model)

        ollama = FakeOllama(
            count=lambda text: len(prompts.encode(text)),
            faults={} if way in ("", "dies") else {request: way},
            slow_seconds=0.1,
        )
        ollama.__enter__()
        if way == "dies":
            ollama.requests = _Fatal(ollama, request)
        tell({"address": ollama.address})

    return work


class _Fatal(list[tuple[str, str]]):
    """The server's list of requests, which ends its process at the first of a kind."""

    def __init__(self, ollama: Any, request: str) -> None:
        super().__init__()
        self._request = {"render": "chat"}.get(request, request)

    def append(self, row: tuple[str, str]) -> None:
        super().append(row)
        if [*row[1].split("/"), "", ""][2] == self._request:
            os._exit(0)
