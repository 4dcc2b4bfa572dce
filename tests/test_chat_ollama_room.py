"""Ollama leaves its memory to a step that trains, and a model is not sent to a disk that cannot hold it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_ollama import FakeOllama, Model

from aegis_core import freshness, pipeline
from aegis_core.cancel import CancelToken
from aegis_core.chat import ollama_room
from aegis_core.chat.ollama_made import is_ours, known, remember
from aegis_core.chat.ollama_room import SPARE_BYTES, free_memory, require_disk_space
from aegis_core.context import StepContext
from aegis_core.events import Event, Log, StepFinished
from aegis_core.failures import UserError
from aegis_core.plan import Plan
from aegis_core.run_directory import RunDirectory

HERE = "http://127.0.0.1:11434"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeOllama]:
    """One that holds a model of ours and one of somebody else's."""
    monkeypatch.setenv("AEGIS_CACHE", str(tmp_path / "cache"))
    with FakeOllama(vram_bytes=4_200_000_000) as fake:
        monkeypatch.setenv("OLLAMA_HOST", fake.address)
        for name, digest in (("aegis:latest", "a1"), ("llama3:8b", "b2")):
            fake.models[name] = Model("sha256:0", digest, "", {})
            fake.loaded.add(name)
        remember(fake.address, "aegis", {"digest": "a1"})
        yield fake


def told(heard: list[Event]) -> list[tuple[str, str]]:
    return [(event.level, event.text) for event in heard if isinstance(event, Log)]


def freed() -> list[tuple[str, str]]:
    heard: list[Event] = []
    free_memory(heard.append)
    return told(heard)


def room(free: int, size: int, monkeypatch: pytest.MonkeyPatch, base: str = HERE) -> list[tuple[str, str]]:
    monkeypatch.setattr(ollama_room, "disk_free_bytes", lambda path: free)
    heard: list[Event] = []
    require_disk_space(size, base, heard.append, Path("models"))
    return told(heard)


def test_our_models_are_unloaded_and_others_are_named_with_what_they_hold(server: FakeOllama) -> None:
    (ours, others) = freed()
    assert server.loaded == {"llama3:8b"}
    assert ours == ("info", "Ollama has let go of aegis:latest.")
    assert others[0] == "warning" and "4.2 GB" in others[1] and "llama3:8b" in others[1]


def test_a_model_that_took_the_place_of_ours_is_not_ours(server: FakeOllama) -> None:
    server.models["aegis:latest"].digest = "somebody else's"
    freed()
    assert server.loaded == {"aegis:latest", "llama3:8b"}


def test_others_that_hold_no_graphics_memory_are_no_warning(server: FakeOllama) -> None:
    server.vram_bytes = 0
    assert [level for level, _ in freed()] == ["info"]


def test_a_server_on_another_machine_is_left_alone(server: FakeOllama, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ollama_room, "is_loopback", lambda base: False)
    assert freed() == [] and len(server.loaded) == 2


@pytest.mark.parametrize("fault", ["500", "malformed"])
def test_a_server_that_refuses_does_not_stop_the_step(server: FakeOllama, fault: str) -> None:
    server.faults["ps"] = fault
    ((level, text),) = freed()
    assert level == "warning" and "may still hold memory" in text


def test_without_an_ollama_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:9")
    assert freed() == []


@pytest.mark.parametrize(("step", "freed"), [("train", True), ("search", True), ("check", False), ("report", False)])
def test_a_step_that_loads_the_model_begins_with_room_for_it(
    server: FakeOllama, run: RunDirectory, monkeypatch: pytest.MonkeyPatch, step: str, freed: bool
) -> None:
    loaded_meanwhile: list[set[str]] = []

    def seen(self: freshness.Step, plan: Plan, ctx: StepContext) -> None:
        loaded_meanwhile.append(set(server.loaded))

    monkeypatch.setattr(freshness.Step, "run", seen)
    monkeypatch.setattr(pipeline, "unfinished", lambda *arguments: [])
    monkeypatch.setattr(pipeline, "states", lambda *arguments: {step: freshness.State.READY})
    heard: list[Event] = []
    pipeline.run_steps(run, (freshness.BY_ID[step],), heard.append, CancelToken())
    assert isinstance(heard[-1], StepFinished)
    assert loaded_meanwhile == [{"llama3:8b"} if freed else {"aegis:latest", "llama3:8b"}]


def test_a_disk_too_small_for_the_copy_refuses_it_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"2\.40 GB, but only 2\.39 GB") as refusal:
        room(2_390_000_000, 2_400_000_000, monkeypatch)
    assert "embedded" in refusal.value.advice


def test_a_disk_too_small_for_a_second_copy_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 2_400_000_000
    assert room(2 * size, size, monkeypatch)[0][0] == "warning"
    ((level, text),) = room(2 * size + SPARE_BYTES, size, monkeypatch)
    assert level == "info" and "2.40 GB" in text


def test_the_disk_of_another_machine_is_not_ours_to_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    assert room(0, 10**12, monkeypatch, "http://box.example:11434") == []


def test_ours_is_known_by_name_in_any_form_and_by_digest(server: FakeOllama) -> None:
    assert is_ours(server.address, "AEGIS:latest", "a1") and not is_ours(server.address, "aegis", "")
    assert not is_ours("http://elsewhere:1", "aegis", "a1")
    remember(server.address, "aegis:latest", {"digest": "c3"})
    assert known(server.address, "aegis") == {"digest": "c3"}
