"""Fusing into the base model as a training in 4 bits saw it, and holding that against the original weights."""

import importlib.util
import json
import subprocess
import sys
import types

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from test_fusion import context, held_out, make_base, make_run, make_soul
from torch import nn
from transformers import AutoModelForCausalLM

from aegis_core.cancel import CancelToken
from aegis_core.evaluation.measurement import Measurement, save_measurement
from aegis_core.events import Verdict
from aegis_core.failures import UserError
from aegis_core.fusion import four_bits
from aegis_core.fusion.four_bits import kept_in_four_bits, round_trip
from aegis_core.fusion.ingredients import finished_files, gather
from aegis_core.fusion.merge import merge
from aegis_core.fusion.proof import prove, verify
from aegis_core.models.weights import stored_tensors
from aegis_core.plan import Plan
from aegis_core.report.evidence import Evidence
from aegis_core.report.quality import quality_checks, read_stages
from aegis_core.run_directory import RunDirectory, read_json, write_json
from aegis_core.steps import fuse

DEQUANTISED = "dequantised_4bit"


TRAINED_IN = torch.bfloat16


def coarse(weight: torch.Tensor, blocksize: int, compress_statistics: bool, quant_type: str):
    """Stands in for bitsandbytes' NF4: seven steps to either side of zero, a scale for every 64 numbers."""
    assert (blocksize, compress_statistics, quant_type) == (64, True, "nf4")
    assert weight.dtype == TRAINED_IN, "training had cast it to what it computed in"
    rows = weight.float().reshape(-1, blocksize)
    scale = rows.abs().amax(1, keepdim=True).clamp_min(1e-12) / 7
    return (rows / scale).round(), (scale, weight.shape, weight.dtype)


@pytest.fixture
def fake_bitsandbytes(monkeypatch):
    library = types.SimpleNamespace(
        quantize_4bit=coarse,
        dequantize_4bit=lambda packed, state: (packed * state[0]).reshape(state[1]).to(state[2]),
    )
    monkeypatch.setattr(four_bits, "_library", lambda: library)


def trained_in_four_bits(run: RunDirectory) -> RunDirectory:
    """What the training step leaves where it kept the base in 4 bits."""
    path = run.step_folder("train") / "measured" / "gated_nf4.safetensors"
    save_measurement(path, Measurement(torch.ones(4)), {"tokens": "x", "trained_in": "bfloat16"})
    return run


def four_bit_plan(**changes: str) -> Plan:
    return Plan.model_validate({"fuse": {"base": DEQUANTISED, **changes}})


@pytest.fixture
def run(tmp_path, fake_bitsandbytes) -> RunDirectory:
    base = make_base(tmp_path / "素体 base")
    return trained_in_four_bits(make_run(tmp_path / "ri tual", base, make_soul(base), four_bit_plan()))


@pytest.mark.parametrize("family", ["llama", "mistral", "phi3", "qwen2", "qwen3", "gemma3_text"])
def test_the_weights_in_four_bits_are_the_linear_layers_without_the_head(tmp_path, family):
    base = make_base(tmp_path / "base", family)
    model = AutoModelForCausalLM.from_pretrained(base.path)
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert kept_in_four_bits(stored_tensors(base.path)) == linear - {"lm_head.weight"}


def test_with_a_fake_bitsandbytes_the_merge_is_pefts_into_the_dequantised_weights(run, tmp_path):
    ingredients = gather(run)
    merge(ingredients, tmp_path / "out", CancelToken())
    model = AutoModelForCausalLM.from_pretrained(ingredients.base.path, dtype="auto")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in kept_in_four_bits(stored_tensors(ingredients.base.path)):
                weight.copy_(round_trip(weight, TRAINED_IN))
    expected = PeftModel.from_pretrained(model, ingredients.adapter).merge_and_unload().state_dict()
    found = load_file(tmp_path / "out" / "model.safetensors")
    for name in found.keys() - {"lm_head.weight", "model.norm.weight"}:
        assert torch.equal(found[name], expected[name]), name


def test_with_a_fake_bitsandbytes_the_proof_speaks_of_the_base_that_was_merged_into(run, tmp_path):
    ingredients = gather(run)
    merge(ingredients, tmp_path / "out", CancelToken())
    proof = prove(ingredients, tmp_path / "out", held_out(), tmp_path, CancelToken())
    assert abs(proof.loss_difference) < 1e-3 and proof.max_abs_logit_diff < 1e-3, proof
    original = gather(run, "original")
    assert finished_files(tmp_path / "out", original) is None, "the record says which base it was"
    merge(original, tmp_path / "original", CancelToken())
    other = prove(original, tmp_path / "original", held_out(), tmp_path, CancelToken())
    assert other.gated.loss != proof.gated.loss


def test_with_a_fake_bitsandbytes_both_merge_bases_are_measured_and_the_report_holds_the_fused_one_to_its_own(run):
    ctx, _ = context(run)
    fuse.run(run.plan(), ctx)
    rows = read_json(run.step_folder("fuse") / "quality.json")
    assert rows.keys() == {"gated", "gated_dequantised_4bit", "fused"}
    apart = abs(rows["fused"]["loss"] - rows["gated_dequantised_4bit"]["loss"])
    assert apart < 1e-3 < abs(rows["fused"]["loss"] - rows["gated"]["loss"]), "or this test shows nothing"
    (run.step_folder("train") / "quality.json").write_text("{}", encoding="utf-8")
    write_json(run.step_folder("export") / "quality.json", {})
    evidence = Evidence(run)
    stages, _ = read_stages(evidence)
    assert stages["fused"]["against_previous"]["stage"] == "gated_dequantised_4bit"
    assert stages["gated_dequantised_4bit"]["against_previous"]["stage"] == "gated", "one base against the other"
    assert quality_checks(evidence, stages, 9.0)["fused_equals_gated"].status == "pass"
    assert all(verdict.status == "pass" for verdict in verify(run) if isinstance(verdict, Verdict))


def test_with_a_fake_bitsandbytes_going_back_to_the_original_base_forgets_the_other(run):
    ctx, _ = context(run)
    fuse.run(run.plan(), ctx)
    first = load_file(run.step_folder("fuse") / "model" / "model.safetensors")
    plan = four_bit_plan(base="original")
    run.write_plan(plan)
    fuse.run(plan, context(run)[0])
    assert read_json(run.step_folder("fuse") / "quality.json").keys() == {"gated", "fused"}
    assert not (run.step_folder("fuse") / "measured" / "gated_dequantised_4bit.safetensors").exists()
    second = load_file(run.step_folder("fuse") / "model" / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(first[name], second[name])


def test_a_training_that_was_not_in_four_bits_has_no_such_base(tmp_path):
    base = make_base(tmp_path / "base")
    run = make_run(tmp_path / "run", base, make_soul(base), four_bit_plan())
    with pytest.raises(UserError, match="did not keep the base model in 4 bits"):
        fuse.run(run.plan(), context(run)[0])


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_without_bitsandbytes_it_says_what_to_install(tmp_path):
    base = make_base(tmp_path / "base")
    run = trained_in_four_bits(make_run(tmp_path / "run", base, make_soul(base), four_bit_plan()))
    with pytest.raises(UserError, match="needs the package bitsandbytes"):
        fuse.run(run.plan(), context(run)[0])
    assert not (run.step_folder("fuse") / "model").exists()


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
def test_the_real_nf4_is_the_one_a_linear_layer_of_bitsandbytes_keeps():
    """In a process of its own: imported here, it would change what later tests train."""
    script = """if True:
        import json, torch, bitsandbytes as bnb
        from aegis_core.fusion.four_bits import round_trip
        torch.manual_seed(0)
        weight = (torch.randn(96, 256) * 0.02).bfloat16()
        layer = bnb.nn.Linear4bit(256, 96, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
        layer.weight = bnb.nn.Params4bit(
            weight.clone(), requires_grad=False, quant_type="nf4", compress_statistics=True, quant_storage=torch.uint8
        )
        layer = layer.to("cuda" if torch.cuda.is_available() else "cpu")
        kept = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).cpu()
        found = round_trip(weight, torch.bfloat16)
        wide = round_trip(weight.float(), torch.bfloat16)  # a checkpoint in float32, trained in bfloat16
        assert torch.equal(wide, found.float()) and wide.dtype == torch.float32
        error = ((found - weight).float().norm() / weight.float().norm()).item()
        print(json.dumps([bool(torch.equal(found, kept)), str(found.dtype), error]))
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, encoding="utf-8", check=True)
    same, dtype, error = json.loads(done.stdout.splitlines()[-1])
    assert same and dtype == "torch.bfloat16" and 0.05 < error < 0.15
