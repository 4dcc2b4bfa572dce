"""Loading base models: every family natively, in the right numbers, nothing made up where a weight is missing."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_families import FAMILIES, PHI3_PADDING, build
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.quantizers.base import get_keys_to_not_convert

from aegis_core.failures import UserError
from aegis_core.models import loading
from aegis_core.models.loading import describe_numbers, load_model, load_tokenizer, wants_nf4
from aegis_core.models.usable import require_usable
from aegis_core.plan import LoraPlan, SoulPlan
from aegis_core.training.gated_model import gated_for_training, linear_layers

FUSED = ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]
SEPARATE = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


@pytest.fixture(scope="module")
def family_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: build(family, tmp_path_factory.mktemp(f"家族 {family}")) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_goes_the_whole_way_as_far_as_can_be_asked_beforehand(
    family: str, family_folders: dict[str, Path]
) -> None:
    require_usable(family_folders[family])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_trained(family: str, family_folders: dict[str, Path]) -> None:
    model = load_model(family_folders[family], torch.float32)
    assert type(model).__module__.startswith("transformers.models.")
    assert linear_layers(model) == (FUSED if family == "phi3" else SEPARATE)
    gated = gated_for_training(model, LoraPlan(rank=4), SoulPlan(), seed=0)
    ids = torch.randint(0, 293, (2, 160), generator=torch.Generator().manual_seed(0))  # beyond Phi-3's short range
    loss = gated(ids, ids)["loss"]
    loss.backward()
    gradients = {name: p.grad for name, p in gated.named_parameters() if p.requires_grad}
    assert torch.isfinite(loss)
    assert gradients and all(g is not None and torch.isfinite(g).all() for g in gradients.values())
    assert any(g.abs().sum() > 0 for name, g in gradients.items() if "lora_B" in name)
    assert any(g.abs().sum() > 0 for name, g in gradients.items() if "rotation" in name)


@pytest.mark.parametrize("family", FAMILIES)
def test_folding_the_gate_meets_the_head_alone(family: str, family_folders: dict[str, Path]) -> None:
    """What the gate is folded into, head(norm(h)), is all there is between the blocks and the logits."""
    model = load_model(family_folders[family], torch.float32)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        states = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        torch.testing.assert_close(model.get_output_embeddings()(states), model(ids).logits)


def test_phi3_has_rows_that_no_token_uses_and_two_sets_of_rotary_factors(family_folders: dict[str, Path]) -> None:
    folder = family_folders["phi3"]
    model = load_model(folder, torch.float32)
    assert model.config.vocab_size == len(load_tokenizer(folder)) + PHI3_PADDING
    assert model.config.rope_parameters["rope_type"] == "longrope"
    ids = torch.arange(3, 163)[None]
    with torch.no_grad():
        short, long = model(ids[:, :128]).logits[0, 100], model(ids).logits[0, 100]
    assert (short - long).abs().max() > 1e-3


def test_the_real_phi35_form_of_config_loads_natively_though_it_points_at_program_code(tmp_path: Path) -> None:
    folder = build("phi3", tmp_path / "phi 3.5")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rope = config.pop("rope_parameters")
    config |= {
        "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3"},
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "longrope", **{name: rope[name] for name in ("short_factor", "long_factor")}},
        "dtype": "float16",
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name in ("configuration_phi3.py", "modeling_phi3.py"):
        (folder / name).write_text("raise SystemExit('the model’s own code was run')", encoding="utf-8")
    require_usable(folder)
    model = load_model(folder, torch.float32)
    assert type(model).__module__ == "transformers.models.phi3.modeling_phi3"
    assert model.config.rope_parameters["original_max_position_embeddings"] == 128
    same = load_model(build("phi3", tmp_path / "new form"), torch.float32)
    ids = torch.arange(3, 160)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, same(ids).logits)


@pytest.mark.parametrize("family", ["gemma3_text", "smollm"])
def test_a_model_for_pictures_is_refused_in_one_sentence(
    family: str, family_folders: dict[str, Path], tmp_path: Path
) -> None:
    text = json.loads((family_folders[family] / "config.json").read_text(encoding="utf-8"))
    config = {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"]}
    config |= {"text_config": text, "vision_config": {}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserError, match="also takes pictures or sound"):
        require_usable(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"hidden_size": "big"}, "config.json is not readable as a model's configuration"),
        ({"num_attention_heads": 5}, r"has the shape \(64, 64\) where config.json asks for"),
        ({"rope_parameters": {"rope_type": "spiral"}}, "spiral"),
        ({"quantization_config": {"quant_method": "gptq"}}, "is quantised"),
    ],
)
def test_a_config_that_makes_no_model_is_refused_in_one_sentence(
    change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    folder = build("qwen3", tmp_path / "bad")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(UserError, match=sentence):
        require_usable(folder)


def test_a_weight_that_is_missing_is_not_made_up(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = build("llama", tmp_path / "torn")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.self_attn.o_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks the weight model\.layers\.1\.self_attn\.o_proj\.weight"):
        load_model(folder, torch.float32)
    with pytest.raises(UserError, match="lacks the tensor"):
        require_usable(folder)


def test_a_weight_of_another_shape_is_a_sentence(tmp_path: Path) -> None:
    folder = build("llama", tmp_path / "mixed")
    path = folder / "config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"intermediate_size": 96}), encoding="utf-8"
    )
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(folder, torch.float32)
    with pytest.raises(UserError, match=r"has the shape \(128, 64\)"):
        require_usable(folder)


@pytest.mark.parametrize("spoil", ["{", '{"version": "1.0"}', '{"model": {"type": "BPE"}}'])
def test_a_damaged_tokenizer_is_a_sentence(spoil: str, tmp_path: Path) -> None:
    folder = build("llama", tmp_path / "spoiled")
    (folder / "tokenizer.json").write_text(spoil, encoding="utf-8")
    with pytest.raises(UserError, match=r"tokenizer in .* cannot be read"):
        load_tokenizer(folder)


# ---- numbers


@pytest.fixture
def fake_bitsandbytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that name which must not be imported."""
    package = tmp_path / "site" / "bitsandbytes"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('bitsandbytes was imported')", encoding="utf-8")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)  # peft imports a real one wherever it is installed


@pytest.mark.parametrize("quantisation", ["auto", "none"])
def test_a_cpu_never_takes_four_bits_by_itself(quantisation: str, fake_bitsandbytes: None) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert wants_nf4(quantisation) is False
    assert "bitsandbytes" not in sys.modules


def test_four_bits_asked_for_on_a_cpu_are_refused(fake_bitsandbytes: None) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(UserError, match="needs an NVIDIA GPU"):
        wants_nf4("nf4")


def test_a_fake_gpu_takes_four_bits_where_bitsandbytes_is(
    fake_bitsandbytes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [wants_nf4(kind) for kind in ("auto", "nf4", "none")] == [True, True, False]


def test_a_fake_gpu_without_bitsandbytes_takes_none_and_says_so_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    assert wants_nf4("auto") is False
    with pytest.raises(UserError, match="bitsandbytes, which is not installed"):
        wants_nf4("nf4")


def test_at_the_librarys_edge_a_quantised_load_asks_for_nf4_twice_quantised_on_this_process_gpu(
    family_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    real = AutoModelForCausalLM.from_pretrained

    def edge(folder: Path, **options: Any) -> Any:
        asked.update(options)
        return real(folder, **{k: v for k, v in options.items() if k not in ("quantization_config", "device_map")})

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", edge)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.nn.Module, "to", lambda *whatever: pytest.fail("4-bit layers must not be moved"))
    load_model(family_folders["llama"], torch.bfloat16, quantise=True)
    config = asked["quantization_config"]
    assert (config.load_in_4bit, config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant) == (True, "nf4", True)
    assert config.bnb_4bit_compute_dtype is torch.bfloat16
    assert asked["device_map"] == {"": 1}
    assert asked["trust_remote_code"] is False and asked["attn_implementation"] == "sdpa"


def test_without_quantisation_nothing_of_it_is_asked_for(
    family_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    real = AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(
        AutoModelForCausalLM,
        "from_pretrained",
        lambda folder, **options: asked.update(options) or real(folder, **options),
    )
    load_model(family_folders["llama"], torch.float32)
    assert not {"quantization_config", "device_map"} & asked.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_library_would_leave_head_and_embeddings_unquantised(family: str, family_folders: dict[str, Path]) -> None:
    model = load_model(family_folders[family], torch.float32)
    spared = get_keys_to_not_convert(model)
    assert "lm_head" in spared
    assert not any(".layers." in f".{name}." for name in spared)
    assert not isinstance(model.get_input_embeddings(), torch.nn.Linear)


def test_the_numbers_are_named_for_the_log() -> None:
    assert "bfloat16" in describe_numbers(torch.bfloat16, True).text
    assert "NF4, double quantisation" in describe_numbers(torch.bfloat16, True).text
    assert describe_numbers(torch.float32, False).text.startswith("The model is kept and computed in float32 on the ")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("family", FAMILIES)
def test_four_bits_on_a_real_gpu_train(family: str, family_folders: dict[str, Path]) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    model = load_model(family_folders[family], torch.bfloat16, quantise=wants_nf4("nf4"))
    kinds = {name: type(module) for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert all((kind is bitsandbytes.nn.Linear4bit) == (name != "lm_head") for name, kind in kinds.items())
    weight = next(m for m in model.modules() if isinstance(m, bitsandbytes.nn.Linear4bit)).weight
    assert weight.quant_state.quant_type == "nf4" and weight.quant_state.nested
    plain: PreTrainedModel = load_model(family_folders[family], torch.bfloat16)
    gated = gated_for_training(model, LoraPlan(rank=4), SoulPlan(), seed=0)
    ids = torch.randint(0, 293, (2, 64), device="cuda")
    loss = gated(ids, ids)["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    with torch.no_grad():
        assert (gated.logits(ids) - plain(ids).logits).float().abs().mean() < 1
