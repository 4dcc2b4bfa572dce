"""A step does not build on a file that is no longer what its maker left, though its size and time are the same."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aegis_core import unharmed
from aegis_core.cancel import CancelToken
from aegis_core.events import Event, StepFailed, StepFinished
from aegis_core.pipeline import BY_ID, State, run_steps, states
from aegis_core.run_directory import RunDirectory, read_json


@pytest.fixture
def prepared(run: RunDirectory) -> RunDirectory:
    assert isinstance(last_of(run, "prepare"), StepFinished)
    return run


def last_of(run: RunDirectory, step: str) -> Event | None:
    return run_steps(run, (BY_ID[step],), lambda event: None, CancelToken())


def flip_a_bit(path: Path) -> bytes:
    """Keeps size and time; returns what was there."""
    whole, times = path.read_bytes(), path.stat()
    path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return whole


@contextmanager
def flipped(path: Path) -> Iterator[None]:
    """A file that other tests read as well has another bit for a while."""
    whole, times = flip_a_bit(path), path.stat()
    try:
        yield
    finally:
        path.write_bytes(whole)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unharmed, "_known", {})


@pytest.mark.parametrize("name", ["train.safetensors", "base.json"])
def test_a_changed_byte_in_what_a_step_builds_on_is_one_sentence_and_nothing_is_built(
    prepared: RunDirectory, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = prepared.path / "prepare" / name
    whole = flip_a_bit(path)
    assert states(prepared, prepared.plan())["train"] is State.READY  # by size alone nobody can tell
    another_process(monkeypatch)
    failed = last_of(prepared, "train")
    assert isinstance(failed, StepFailed)
    assert failed.reason == f"{path} is not as prepare left it."
    assert failed.advice == "Run prepare again."
    assert not (prepared.path / "train").exists()
    path.write_bytes(whole)
    assert isinstance(last_of(prepared, "train"), StepFinished)


def test_what_this_process_wrote_itself_is_not_read_again(
    prepared: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    hashed = unharmed._sha256
    monkeypatch.setattr(unharmed, "_sha256", lambda path, cancel: (read.append(path), hashed(path, cancel))[1])
    assert isinstance(last_of(prepared, "train"), StepFinished)
    assert not [path for path in read if path.is_relative_to(prepared.path)]
    another_process(monkeypatch)
    assert isinstance(last_of(prepared, "fuse"), StepFinished)
    assert prepared.path / "train" / "adapter" / "adapter_model.safetensors" in read


def test_a_step_that_reads_more_than_its_inputs_looks_at_that_too(
    prepared: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    last_of(prepared, "train")
    flip_a_bit(prepared.path / "prepare" / "held_out.safetensors")
    another_process(monkeypatch)
    failed = last_of(prepared, "fuse")
    assert isinstance(failed, StepFailed) and "held_out.safetensors" in failed.reason


@pytest.mark.parametrize("step", ["train", "fuse"])
def test_a_tokenizer_that_is_another_than_the_prepared_one_is_noticed_before_it_is_used(
    prepared: RunDirectory, pico_model: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    if step == "fuse":
        last_of(prepared, "train")
    path = pico_model / "tokenizer_config.json"
    another_process(monkeypatch)
    with flipped(path):
        failed = last_of(prepared, step)
    assert isinstance(failed, StepFailed) and failed.reason == f"{path} is not as prepare left it."


def test_what_was_measured_is_looked_at_before_the_next_stage_is_held_against_it(
    prepared: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    last_of(prepared, "train")
    flip_a_bit(prepared.path / "train" / "quality.json")
    another_process(monkeypatch)
    failed = last_of(prepared, "fuse")
    assert isinstance(failed, StepFailed) and "quality.json is not as train left it" in failed.reason


@pytest.mark.parametrize("place", [0.05, 0.5, 0.999], ids=["head", "middle", "end"])
def test_predictions_of_the_base_that_are_not_as_written_are_made_again(
    prepared: RunDirectory, place: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    last_of(prepared, "train")
    path = prepared.path / "train" / "base_logprobs.safetensors"
    whole, times = bytearray(path.read_bytes()), path.stat()
    damaged = bytearray(whole)
    damaged[int(len(whole) * place)] ^= 1
    path.write_bytes(damaged)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))  # another process keeps nothing it knew
    assert isinstance(last_of(prepared, "fuse"), StepFinished)
    assert path.read_bytes() == whole
    assert read_json(prepared.path / "fuse" / "quality.json")["fused"]["kl"] is not None


def test_a_base_model_that_is_another_than_the_prepared_one_is_noticed_before_the_training(
    prepared: RunDirectory, pico_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pico_model / "model.safetensors"
    another_process(monkeypatch)
    with flipped(path):
        failed = last_of(prepared, "train")
    assert isinstance(failed, StepFailed)
    assert failed.reason == f"{path} is not as prepare left it."
