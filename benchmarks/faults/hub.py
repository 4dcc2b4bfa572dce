"""The model hub answers badly, late or not at all, while the base model is fetched."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aegis_core.plan import changed
from aegis_core.run_directory import RunDirectory

from .dose import Dose
from .engine import forked
from .judge import Trial, drafts, false_claims, refused_clearly, users_files_lost
from .ritual import MODEL, Reference
from .servers import serving

FAULT = "a hub that fails"
HOW = (
    "prepare fetches its base model from a local server that speaks the hub's HTTP API and answers 401, 404, 429, "
    "500, a sign-in page, nothing at all (time-outs set to a second), refuses connections, or breaks a file off in "
    "the middle; then the server is well and the plain command must finish with the files that the server has."
)
SOURCE = "someone/tiny"
FAULTS = ("401", "404", "429", "500", "503", "page", "silent", "refused", "cut")


def trials(reference: Reference, dose: Dose, log: Path) -> Iterator[Trial]:
    for fault in dose.some(FAULTS, FAULT):
        for number in range(dose.of(0.04)):
            yield Trial(FAULT, fault, dose.seed + number, "; ".join(_trial(reference, fault, log)))


def _trial(reference: Reference, fault: str, log: Path) -> list[str]:
    run = reference.set_out("prepare")
    run.write_plan(changed(run.plan(), {"model.source": SOURCE}))
    cache, command = reference.folder / "cache", ["run", str(run.path), "--only", "prepare"]
    problems: list[str] = []
    with serving(_failing(reference, fault), log) as told:
        log.unlink(missing_ok=True)
        attempt = forked(command, log, _pointing_at(told["port"], cache))
        if attempt.wait() != 0:
            problems += refused_clearly(attempt, SOURCE, "hub", "Hugging Face", "hugging")
        elif fault != "cut":
            problems.append("exit 0 from such a hub")
        problems += [*false_claims(run), *users_files_lost(run)]
    with serving(_failing(reference, ""), log) as told:
        log.unlink(missing_ok=True)
        attempt = forked(command, log, _pointing_at(told["port"], cache))
        if attempt.wait() != 0:
            return [*problems, f"exit {attempt.exit_code} from a hub that is well: {attempt.said()[-300:]}"]
    return [*problems, *false_claims(run), *drafts(run), *_other_weights(reference, run)]


def _other_weights(reference: Reference, run: RunDirectory) -> list[str]:
    from aegis_core.models.identity import read_base
    from aegis_core.run_directory import sha256_of_file

    expected = {p.name: sha256_of_file(p) for p in (reference.folder / MODEL).glob("*.safetensors")}
    return [] if read_base(run).files == expected else ["the weights are not the hub's"]


def _failing(reference: Reference, fault: str) -> Callable[[Callable[[dict[str, Any]], None]], None]:
    def work(tell: Callable[[dict[str, Any]], None]) -> None:
        if fault in ("silent", "refused"):
            listener = socket.create_server(("127.0.0.1", 0))
            port = listener.getsockname()[1]
            if fault == "refused":
                listener.close()
            tell({"port": port})
            time.sleep(3600)
        from fake_hub import FakeHub, FakeModel

        hub = FakeHub(models={SOURCE: FakeModel(reference.folder / MODEL)})
        hub.status = int(fault) if fault.isdigit() else 0
        hub.page = b"<!DOCTYPE html><title>Sign in</title>" if fault == "page" else b""
        hub.cut = {"model.safetensors"} if fault == "cut" else set()
        hub.__enter__()
        tell({"port": hub.port})

    return work


def _pointing_at(port: int, cache: Path) -> Callable[[], None]:
    def prepare() -> None:
        import pytest
        from fake_hub import point_at
        from huggingface_hub import constants

        point_at(pytest.MonkeyPatch(), port, cache)
        for name in ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"):
            setattr(constants, name, 1)

    return prepare
