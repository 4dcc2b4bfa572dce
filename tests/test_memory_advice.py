"""Out of memory: one sentence, settings that should fit, and one click that applies them."""

import errno
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from aegis_core import hardware, pipeline
from aegis_core.cancel import CancelToken
from aegis_core.child import Child
from aegis_core.cli.work import set_command
from aegis_core.events import Event, StepFailed, Telemetry, decode, encode
from aegis_core.failures import OUT_OF_MEMORY, UserError, explain
from aegis_core.freshness import BY_ID
from aegis_core.models import memory_parts
from aegis_core.models.identity import BaseModel, write_base
from aegis_core.models.memory import Capacity, forecast
from aegis_core.models.memory_advice import first_that_fits, smaller, with_smaller_settings
from aegis_core.models.shape import ModelShape
from aegis_core.plan import Plan, changed
from aegis_core.run_directory import RunDirectory

GB = 10**9
PHI = ModelShape("phi3", 3072, 8192, 32, 32, 32, 96, 32064, tied=False)

TINY_LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 320,
}


@pytest.fixture(autouse=True)
def with_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of a GPU are those of a machine that has it."""
    monkeypatch.setattr(memory_parts, "has_bitsandbytes", lambda: True)


@pytest.fixture
def memory_run(tmp_path: Path) -> RunDirectory:
    """A run whose prepared model is a tiny Llama (its configuration is all that is read), and whose batch is large."""
    folder = tmp_path / "model 小"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY_LLAMA), encoding="utf-8")
    plan = changed(Plan(), {"model.source": str(folder), "train.batch_size": 8, "data.sequence_length": 1024})
    run = RunDirectory.create(tmp_path / "ri tual 日本語", plan)
    run.step_folder("prepare").mkdir()
    write_base(run, BaseModel(str(folder), "local", str(folder), "", "", "llama", 1, 64, 320, False))
    return run


def test_smaller_settings_shrink_step_by_step_and_keep_the_tokens_of_a_step() -> None:
    plan = changed(Plan(), {"train.batch_size": 4, "data.sequence_length": 512, "model.quantisation": "none",
                            "train.gradient_checkpointing": "off"})  # fmt: skip
    found = smaller(plan, PHI, Capacity("cuda", 12 * GB))
    needs = [suggestion.forecast.own_bytes for suggestion in found]
    assert needs == sorted(needs, reverse=True)
    assert found[0].changes == {"train.batch_size": 2, "train.accumulation": 2}
    assert found[1].changes == {"train.batch_size": 1, "train.accumulation": 4}
    assert found[2].changes["train.gradient_checkpointing"] == "on"
    assert found[3].changes["model.quantisation"] == "nf4"
    for suggestion in found:
        after = changed(plan, suggestion.changes)
        tokens = after.train.batch_size * after.train.accumulation * after.data.sequence_length
        assert tokens == 4 * 512


def test_an_odd_batch_comes_down_to_one_and_nothing_smaller_is_left_at_the_end() -> None:
    plan = changed(Plan(), {"train.batch_size": 3, "data.sequence_length": 128})
    assert [s.changes for s in smaller(plan, PHI, Capacity("cuda", GB))] == [
        {"train.batch_size": 1, "train.accumulation": 3}
    ]


def test_the_first_that_fits_is_offered_also_where_the_forecast_was_too_low() -> None:
    plan = changed(Plan(), {"train.batch_size": 8, "data.sequence_length": 2048})
    short = changed(Plan(), {"train.batch_size": 4, "data.sequence_length": 128})
    twice = Capacity("cuda", 2 * forecast(PHI, short, device="cuda").own_bytes)
    too_low = first_that_fits(short, PHI, twice)
    # half the batch saves 4 %, which is no more than the forecast may err once a step has shown how much it takes
    assert too_low and too_low.changes == {"train.batch_size": 1, "train.accumulation": 4}
    small = first_that_fits(plan, PHI, Capacity("cuda", 5 * GB))
    assert small and small.forecast.verdict(5 * GB) == "fits"
    assert small.changes == {"train.batch_size": 1, "train.accumulation": 16, "data.sequence_length": 1024}
    smallest = first_that_fits(plan, PHI, Capacity("cuda", 4 * GB))
    assert smallest and smallest.forecast.verdict(4 * GB) == "tight" and smallest.changes["data.sequence_length"] == 128
    assert first_that_fits(plan, PHI, Capacity("cuda", GB)) is None


def test_a_training_that_ran_out_of_memory_offers_settings(
    memory_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step itself is replaced by one that asks torch for more than there is."""

    def greedy(plan: Plan, ctx: object) -> None:
        import torch

        torch.empty(2**60, dtype=torch.uint8)

    monkeypatch.setitem(sys.modules, "aegis_core.steps.train", SimpleNamespace(run=greedy))  # type: ignore[arg-type]
    monkeypatch.setattr(pipeline, "unfinished", lambda *arguments: [])
    events: list[Event] = []
    failed = pipeline.run_steps(memory_run, (BY_ID["train"],), events.append, CancelToken())
    assert isinstance(failed, StepFailed)
    assert failed.reason == OUT_OF_MEMORY
    assert failed.changes == {"train.batch_size": 4, "train.accumulation": 2}
    assert "train.batch_size = 4, train.accumulation = 2" in failed.advice
    assert "DefaultCPUAllocator" in failed.traceback
    assert decode(encode(failed)) == failed


def test_an_older_event_without_changes_is_still_read() -> None:
    line = json.dumps({"event": "StepFailed", "stage": "train", "reason": "no", "advice": "yes"})
    assert decode(line) == StepFailed("no", "yes", stage="train")


def test_other_failures_other_steps_and_unknown_models_get_no_settings(memory_run: RunDirectory) -> None:
    plan = memory_run.plan()
    failed = StepFailed("", "", reason_template=OUT_OF_MEMORY, stage="train")
    assert with_smaller_settings(failed, memory_run, plan).changes
    assert not with_smaller_settings(replace(failed, stage="fuse"), memory_run, plan).changes
    assert not with_smaller_settings(replace(failed, reason_template="Another."), memory_run, plan).changes
    (memory_run.step_folder("prepare") / "base.json").unlink()
    assert with_smaller_settings(failed, memory_run, plan) == failed


def test_where_nothing_fits_a_smaller_model_is_advised(
    memory_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An invented card of 0.5 GB, whose driver does not say what is ours."""
    tiny = Telemetry(vram_total_bytes=GB // 2, vram_used_bytes=GB // 3)
    monkeypatch.setattr(hardware, "reading", lambda: tiny)
    failed = StepFailed("", "", reason_template=OUT_OF_MEMORY, stage="train")
    found = with_smaller_settings(failed, memory_run, memory_run.plan())
    assert not found.changes and "smaller base model" in found.advice and "0.5 GB" in found.advice


@pytest.mark.skipif(os.name == "nt", reason="a signal ends the process: POSIX")
def test_an_engine_that_the_system_killed_is_taken_for_out_of_memory(memory_run: RunDirectory) -> None:
    script = 'import sys, time; print(\'{"event": "StepStarted", "stage": "train"}\', flush=True); time.sleep(60)'
    child = Child([sys.executable, "-c", script], memory_run.stderr_path)
    events = _events_until_killed(child)
    failed = events[-1]
    assert isinstance(failed, StepFailed) and "memory ran out" in failed.reason
    advised = with_smaller_settings(failed, memory_run, memory_run.plan())
    assert advised.changes == {"train.batch_size": 4, "train.accumulation": 2}
    assert decode(encode(advised)).reason == failed.reason  # type: ignore[attr-defined]


def test_the_terminal_names_the_command_that_changes_the_settings(tmp_path: Path) -> None:
    command = set_command(tmp_path / "ri tual", {"train.batch_size": 1, "train.gradient_checkpointing": "on"})
    words = shlex.split(command) if os.name != "nt" else []
    if words:
        assert words == [
            "aegis", "set", str(tmp_path / "ri tual"), "train.batch_size=1", "train.gradient_checkpointing=on"
        ]  # fmt: skip


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("unable to mmap 448352 bytes from file </素体/model.safetensors>: Cannot allocate memory (12)"),
        OSError(errno.ENOMEM, "Not enough space"),  # as Windows words it
    ],
)
def test_every_form_of_too_little_memory_is_the_same_sentence(error: BaseException) -> None:
    failure = explain(error)
    assert failure.reason == OUT_OF_MEMORY
    assert "expandable_segments" not in failure.advice


@pytest.mark.parametrize(
    "error",
    [
        OSError("[WinError 1455] The paging file is too small for this operation to complete. Error loading c10.dll"),
        RuntimeError("unable to mmap 7 bytes from file <C:/m.safetensors>: error code: <1455>"),
        type("SafetensorError", (Exception,), {})("The paging file is too small for this (os error 1455)"),
    ],
)
def test_a_page_file_that_is_full_is_told_in_the_words_of_fake_windows_errors(error: BaseException) -> None:
    failure = explain(error)
    assert failure.reason == OUT_OF_MEMORY
    assert failure.advice.startswith("Windows' page file is full")


def test_a_library_that_breaks_off_without_a_reason_is_told_with_the_likeliest_one() -> None:
    failure = explain(SystemError("error return without exception set"))
    assert failure.reason.startswith(
        "A library broke off without saying why, as happens when the memory is full: error"
    )


def test_a_fake_llama_cpp_without_memory_says_so() -> None:
    from aegis_core.gguf_export.llama import LlamaServer

    llama = LlamaServer.__new__(LlamaServer)
    with pytest.raises(UserError, match="memory was not enough"):
        llama._checked({"error": {"message": "decode() failed: std::bad_alloc"}})
    with pytest.raises(UserError, match="refused the request: too long"):
        llama._checked({"error": {"message": "too long."}})


def test_a_card_in_pieces_is_told_apart_by_torchs_own_figures() -> None:
    """The message as torch words it, with invented figures."""
    text = (
        "CUDA out of memory. Tried to allocate {wanted}. GPU 0 has a total capacity of 12.00 GiB of which 0.30 GiB is "
        "free. Of the allocated memory 9.10 GiB is allocated by PyTorch, and {unused} is reserved by PyTorch but "
        "unallocated. If reserved but unallocated memory is large try setting "
        "PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
    )
    kind = type("OutOfMemoryError", (RuntimeError,), {})
    pieces = explain(kind(text.format(wanted="512.00 MiB", unused="1.20 GiB")))
    full = explain(kind(text.format(wanted="2.00 GiB", unused="100.00 MiB")))
    assert "PYTORCH_ALLOC_CONF=expandable_segments:True" in pieces.advice
    assert "expandable_segments" not in full.advice


def _events_until_killed(child: Child) -> list[Event]:
    def collected() -> Iterator[Event]:
        for event in child.events():
            if not isinstance(event, StepFailed):
                os.kill(child.pid, signal.SIGKILL)
            yield event

    return list(collected())
