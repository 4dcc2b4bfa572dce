"""A run directory written file by file as the steps' contracts say: a fixture for the report, no ritual was held.

The numbers are made up, the weights random; only form, hashes and arithmetic are as in a real run.
"""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from aegis_core import plan as plans
from aegis_core.chat.judge import judge
from aegis_core.chat.questions import load_questions
from aegis_core.evaluation.measurement import Measurement, save_measurement
from aegis_core.evaluation.quality import quality_of, write_quality
from aegis_core.events import Artifact, Event, StepStarted, Telemetry, encode
from aegis_core.freshness import BY_ID, STEPS, disabled, input_digests, settings_of
from aegis_core.plan import GOLDEN_RATIO, Plan
from aegis_core.run_directory import RunDirectory, read_json, sha256_of_file, sha256_of_json, write_json
from aegis_core.soul.gate import Soul, load_soul
from aegis_core.soul.schedule import curve, gate

N_STEPS = 40
JUDGED = Path(__file__).parent / "data" / "answers" / "en.jsonl"


def finished_run(path: Path, **changes: Any) -> RunDirectory:
    """A run in which every step but the report is done; `changes` are settings with __ for the dot."""
    settings = {"train.steps": N_STEPS, "chat.questions": "en", "report.language": "en", "chat.n_questions": 2}
    settings |= {name.replace("__", "."): value for name, value in changes.items()}
    plan = plans.changed(Plan(), settings)
    run = RunDirectory.create(path, plan)
    _write_check(run)
    _write_prepare(run)
    _write_studies(run, plan)
    _write_train(run, plan)
    _write_fuse(run)
    _write_export(run)
    _write_chat(run, plan)
    _write_events(run)
    for step in STEPS[:-1]:
        if not disabled(plan, step):
            seal(run, step.id)
    return run


def seal(run: RunDirectory, step: str) -> None:
    """Record everything in the step's folder as its finished outputs, as the pipeline does."""
    folder, plan = run.step_folder(step), run.plan()
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "done.json"]
    outputs = [Artifact(str(p.resolve()), p.stat().st_size) for p in files]
    run.write_done(step, settings_of(plan, BY_ID[step]), input_digests(run, plan, BY_ID[step]), outputs, 12.5)


def edit_json(path: Path, change: Callable[[Any], Any]) -> None:
    """Rewrite a JSON file by a function that changes its content in place, or returns other rows."""
    content = read_json(path)
    changed = change(content)
    path.write_text(json.dumps(changed if _are_rows(changed) else content, ensure_ascii=False), encoding="utf-8")


def edit_rows(path: Path, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """The same for a JSON-lines file."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    changed = change(rows)
    lines = [json.dumps(row, ensure_ascii=False) for row in (changed if _are_rows(changed) else rows)]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def edit_tensors(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path)


def change_alpha(run: RunDirectory, alpha: float) -> None:
    path = run.step_folder("train") / "soul.safetensors"
    soul = load_soul(path)
    Soul(**{**vars(soul), "alpha": alpha}).save(path)


def remember_ingredients(run: RunDirectory) -> None:
    """Let the fused folder name the adapter and gate that lie there now."""
    trained, fused = run.step_folder("train"), run.step_folder("fuse") / "model"
    adapter = [trained / "adapter" / name for name in ("adapter_config.json", "adapter_model.safetensors")]
    origin = {
        "adapter_sha256": sha256_of_json([sha256_of_file(path) for path in adapter]),
        "soul_sha256": sha256_of_file(trained / "soul.safetensors"),
    }
    write_json(fused / "aegis.json", origin)


def good_answers() -> dict[str, str]:
    """Question -> an English answer that was labelled good by hand."""
    rows = [json.loads(line) for line in JUDGED.read_text(encoding="utf-8").splitlines()]
    answers = {row["question"]: row["answer"] for row in rows if row["label"] == "good" and row["part"] == "fix"}
    return {q.question: answers[q.id] for q in load_questions("en") if q.id in answers}


def _measure(folder: Path, losses: dict[str, float]) -> None:
    """Stages with these mean losses over 1,234 tokens, and KL to the base at 100 of them."""
    stages = {}
    for stage, loss in losses.items():
        noise = torch.randn(1234, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        own = torch.randn(1234, generator=torch.Generator().manual_seed(len(stage)), dtype=torch.float64) / 1e4
        kl = torch.rand(100, generator=torch.Generator().manual_seed(1)) * (1e-6 if stage == "base" else 0.2)
        measured = Measurement((loss + noise + own - (noise + own).mean()).float(), kl)
        save_measurement(folder / "measured" / f"{stage}.safetensors", measured, {"tokens": "cd" * 32})
        stages[stage] = quality_of(measured)
    write_quality(folder / "quality.json", stages)


def _write_check(run: RunDirectory) -> None:
    rows = [
        {"name": "Python", "status": "ok", "found": "3.11.9", "fix": ""},
        {"name": "torch", "status": "ok", "found": "2.13.0", "fix": ""},
        {"name": "Ollama", "status": "warning", "found": "nobody answers", "fix": "Install it from ollama.com."},
        {"name": "RAM", "status": "ok", "found": "16.0 GB", "fix": ""},
    ]
    write_json(_folder(run, "check") / "check.json", rows)


def _write_prepare(run: RunDirectory) -> None:
    folder = _folder(run, "prepare")
    base = {
        "source": "demo", "revision": "0.1.2", "folder": "nowhere", "sha256": "ab" * 32, "license": "apache-2.0",
        "architecture": "LlamaForCausalLM", "n_parameters": 134_515_008, "hidden_size": 16, "vocabulary_size": 49152,
        "tied_embeddings": True,
    }  # fmt: skip
    write_json(folder / "base.json", base)
    part = {"n_samples": 12, "n_sequences": 10, "n_tokens": 1280, "n_counted_tokens": 1234}
    write_json(
        folder / "data.json",
        {"source": "physics", "n_samples": 24, "train": part, "held_out": part, "held_out_topics": ["optics"]},
    )


def _write_studies(run: RunDirectory, plan: Plan) -> None:
    states = ("COMPLETE", "COMPLETE", "FAIL", "PRUNED", "COMPLETE")
    for step, value in (("search", 3.2), ("schedule", 1.4)):
        if not plans.get(plan, f"{step}.enabled"):
            continue
        trials = [
            {
                "number": i,
                "state": state,
                "value": value - i / 50 if state == "COMPLETE" else None,
                "params": {"learning_rate": 1e-4 * (i + 1)},
                "reason": "The memory was not enough for this trial." if state == "FAIL" else "",
            }
            for i, state in enumerate(states)
        ]
        write_json(_folder(run, step) / "trials.json", trials)
        best = {"changes": {"train.learning_rate": 5e-4}, "value": value - 0.08, "params": {"learning_rate": 5e-4}}
        write_json(run.step_folder(step) / "best.json", best)


def _write_train(run: RunDirectory, plan: Plan) -> None:
    folder = _folder(run, "train")
    torch.manual_seed(0)
    adapter = folder / "adapter"
    adapter.mkdir()
    write_json(adapter / "adapter_config.json", {"r": 4, "peft_type": "LORA"})
    save_file(
        {"layer.lora_A.weight": torch.randn(4, 16), "layer.lora_B.weight": torch.randn(16, 4)},
        adapter / "adapter_model.safetensors",
    )
    Soul(GOLDEN_RATIO, torch.randn(2, 28) / 100, True, "demo", "0.1.2", "ab" * 32).save(folder / "soul.safetensors")
    rows = []
    for i, alpha in enumerate(curve(plan.train.steps, plan.soul)):
        noise = torch.randn(()).item() / 5
        row = {
            "step": i + 1, "loss": 3.3 - 0.4 * i / plan.train.steps + noise, "alpha": alpha, "gate": gate(alpha),
            "learning_rate": 2e-4, "grad_norm": 1.0, "tokens": 256, "seconds": 0.5,
        }  # fmt: skip
        if (i + 1) % 10 == 0:
            row["held_out_loss"] = 3.3 - 0.35 * (i + 1) / plan.train.steps
        rows.append(row)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    _measure(folder, {"base": 3.3026})
    summary = {
        "steps_planned": plan.train.steps, "steps_done": len(rows), "alpha_final": rows[-1]["alpha"],
        "rotation_angle": 0.0031, "orthogonality_error": 1.2e-7, "chance_loss": math.log(49152),
        "tokens": 256 * len(rows), "seconds_in_steps": 20.0,
    }  # fmt: skip
    write_json(folder / "summary.json", summary)


def _write_fuse(run: RunDirectory) -> None:
    folder = _folder(run, "fuse")
    (folder / "model").mkdir()
    save_file({"lm_head.weight": torch.randn(8, 16)}, folder / "model" / "model.safetensors")
    remember_ingredients(run)
    limits = {
        "max_abs_logit_diff": 1e-3, "loss_difference": 1e-3, "top1_agreement": 0.99, "head_difference": 1e-4,
    }  # fmt: skip
    proof = {
        "max_abs_logit_diff": 2.1e-5, "loss_difference": 3e-7, "loss_difference_standard_error": 4e-6,
        "top1_agreement": 1.0, "head_difference": 1.1e-6,
        "dtype": "float32", "computed_in": "float32", "n_tokens": 1234, "n_positions": 1280, "limits": limits,
        "passed": True, "folder": "fuse/model",
    }  # fmt: skip
    write_json(folder / "proof.json", proof)
    _measure(folder, {"gated": 2.95, "fused": 2.9500003})


def _write_export(run: RunDirectory) -> None:
    folder, rows = _folder(run, "export"), []
    for kind, label in (("f16", "F16"), ("q4_k_m", "Q4_K_M")):
        path = folder / f"aegis-{label}.gguf"
        path.write_bytes(b"a fixture, not a model: " + label.encode() * 99)
        checks = [{"name": "tensor table", "passed": True, "measured": "273 tensors", "expected": "273 tensors"}]
        rows.append(
            {
                "path": f"export/{path.name}", "type": kind, "bytes": path.stat().st_size,
                "sha256": sha256_of_file(path), "n_tensors": 273, "tensor_types": {label: 273}, "checks": checks,
            }
        )  # fmt: skip
    write_json(folder / "files.json", rows)
    _measure(folder, {"f16": 2.9502, "q4_k_m": 3.01})


def _write_chat(run: RunDirectory, plan: Plan) -> None:
    questions = {q.question: q for q in load_questions("en")}
    rows = [
        {
            "id": questions[question].id, "question": question, "answer": answer,
            "reason": "stop", "n_tokens": 60, "seconds": 2.0,
            "backend": "embedded", "model": "aegis-Q4_K_M.gguf", "language": "en",
            "ollama_loaded": {"status": "skipped", "measured": "answered by the built-in llama.cpp"},
            "verdict": judge(answer, questions[question], "en").row(),
        }
        for question, answer in list(good_answers().items())[: plan.chat.n_questions]
    ]  # fmt: skip
    folder = _folder(run, "chat")
    for name, model in (("transcript", "aegis-Q4_K_M.gguf"), ("base_transcript", "base-F16.gguf")):
        text = "".join(json.dumps(row | {"model": model}, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    write_json(run.step_folder("chat") / "chat.json", {"backend": "embedded", "ollama_loaded": {"status": "skipped"}})


def _write_events(run: RunDirectory) -> None:
    at, events = 1_790_000_000.0, list[Event]()
    for step, gigabytes in (("train", 1.4), ("fuse", 1.1), ("export", 0.9), ("chat", 0.4), ("report", 9.0)):
        events.append(StepStarted(at=at, stage=step))
        for second in range(30):
            own = int((gigabytes + second / 100) * 1e9)
            events.append(Telemetry(at=at + second, stage=step, ram_own_bytes=own, ram_total_bytes=16 * 10**9))
        at += 3600
    run.events_path.write_text("".join(encode(event) + "\n" for event in events), encoding="utf-8")


def _folder(run: RunDirectory, step: str) -> Path:
    folder = run.step_folder(step)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
