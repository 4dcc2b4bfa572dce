"""Every family: a trained adapter and gate fused into it, written as GGUF, and llama.cpp computes what torch does."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_families import FAMILIES, build

from aegis_core.cancel import CancelToken
from aegis_core.data.packed import Packed
from aegis_core.failures import UserError
from aegis_core.fusion.ingredients import Ingredients
from aegis_core.fusion.merge import merge
from aegis_core.fusion.proof import prove
from aegis_core.gguf_export.agreement import check_probabilities, check_tokens, positions
from aegis_core.gguf_export.checks import Check
from aegis_core.gguf_export.dequantised import dequantised_model
from aegis_core.gguf_export.families import family_of
from aegis_core.gguf_export.gguf_file import GgufFile
from aegis_core.gguf_export.llama import LlamaServer
from aegis_core.gguf_export.metadata import Metadata
from aegis_core.gguf_export.model_folder import ModelFolder
from aegis_core.gguf_export.recipe import RECIPES
from aegis_core.gguf_export.verify import check_file
from aegis_core.gguf_export.vocabulary import read_vocabulary
from aegis_core.gguf_export.writer import Source, write_gguf
from aegis_core.models.identity import BaseModel
from aegis_core.models.loading import load_tokenizer
from aegis_core.models.weights import stored_tensors, weights_sha256
from aegis_core.plan import GOLDEN_RATIO
from aegis_core.soul.gate import Soul

# llama.cpp chooses the rotary factors by its context, which is never smaller than 256.
SHORT_FACTORS = {"original_max_position_embeddings": 512, "max_position_embeddings": 2048}
LINEAR = {"rope_type": "linear", "factor": 8.0}
SLIDING, FULL = "sliding_attention", "full_attention"
VARIANTS: list[tuple[str, dict[str, object]]] = [
    *((family, SHORT_FACTORS if family == "phi3" else {}) for family in FAMILIES),
    ("phi3", {"rope_parameters": None, "sliding_window": 400}),  # as Phi-3-mini-4k
    ("phi3", {**SHORT_FACTORS, "tie_word_embeddings": True, "num_key_value_heads": 2}),
    ("qwen2", {"tie_word_embeddings": True, "rope_parameters": {**LINEAR, "rope_theta": 1e6}}),
    ("qwen3", {"tie_word_embeddings": True, "head_dim": 32}),
    (
        "gemma3_text",
        {
            "num_hidden_layers": 7,
            "layer_types": [*[SLIDING] * 5, FULL, SLIDING],
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "rope_parameters": {
                FULL: {**LINEAR, "rope_theta": 1e6},
                SLIDING: {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
]


@dataclass(frozen=True)
class Told:
    """What the file check and llama.cpp say of one F16 file."""

    file: GgufFile
    checks: list[Check]


def ingredients_for(folder: Path, base: Path, **lora: object) -> Ingredients:
    """A trained-looking adapter on all linear layers of the blocks, a rotation, and the base they belong to."""
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    linear = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and "layers" in n]
    targets = sorted({name.rpartition(".")[2] for name in linear})
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": targets, "task_type": "CAUSAL_LM", **lora})
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
            if "lora_magnitude_vector" in name:
                parameter.mul_(1 + 0.3 * torch.rand_like(parameter))
    adapted.save_pretrained(folder)
    shapes = {tensor.name: tensor.shape for tensor in stored_tensors(base)}
    rows, hidden = shapes["model.embed_tokens.weight"]
    sha256 = weights_sha256(base, CancelToken())
    tied = "lm_head.weight" not in shapes
    described = BaseModel("tiny", "r1", str(base), sha256, "cc0", "X", 10**5, hidden, rows, tied)
    soul = Soul(torch.tensor(GOLDEN_RATIO).item(), torch.randn(hidden // 8, 28) * 0.3, True, "tiny", "r1", sha256)
    return Ingredients(described, folder, soul, "a", "s", "run")


def told_of(folder: Path, file: Path, held_out: Packed, n_ctx: int = 512) -> Told:
    """Write the folder as F16, check the file, and hold llama.cpp against torch with the file's own tensors."""
    model = ModelFolder(folder)
    source = Source(model, read_vocabulary(folder, model.config.vocab_size), Metadata("Tiny", "cc0", None))
    digests = write_gguf(file, source, RECIPES["f16"], CancelToken(), lambda done, total: None)
    written = GgufFile(file)
    checks = check_file(written, model, RECIPES["f16"], CancelToken(), lambda done, total: None, digests)
    torch_model = dequantised_model(written, model, CancelToken())
    places = positions(lambda ids: torch_model(input_ids=ids).logits, held_out, CancelToken())
    with LlamaServer(file, n_ctx=n_ctx) as server:
        checks.append(check_tokens(server, load_tokenizer(folder)))
        checks += check_probabilities(server, places, RECIPES["f16"], CancelToken())
    return Told(written, checks)


def random_tokens(n: int, length: int, n_tokens: int = 250) -> Packed:
    ids = torch.randint(3, n_tokens, (n, length), generator=torch.Generator().manual_seed(1))
    return Packed(ids, ids.clone())


@pytest.mark.parametrize(("family", "settings"), VARIANTS, ids=lambda value: value if isinstance(value, str) else "")
def test_what_was_fused_is_what_llama_cpp_computes(tmp_path: Path, family: str, settings: dict[str, object]) -> None:
    base = build(family, tmp_path / "base", **settings)
    ingredients = ingredients_for(tmp_path / "adapter", base)
    merge(ingredients, tmp_path / "fused 融合", CancelToken())
    held_out = random_tokens(6, 80)
    proof = prove(ingredients, tmp_path / "fused 融合", held_out, tmp_path, CancelToken())
    assert proof.passed and proof.max_abs_logit_diff < 1e-4, proof
    told = told_of(tmp_path / "fused 融合", tmp_path / "m.gguf", held_out)
    assert not [check for check in told.checks if not check.passed]
    assert "output.weight" in told.file.table  # tied or not: the gate is in a head of its own


DORA, RANK_STABILISED = {"use_dora": True}, {"use_rslora": True}


@pytest.mark.parametrize("family", ["phi3", "qwen2", "gemma3_text"])
@pytest.mark.parametrize(
    ("lora", "dtype"),
    [
        (DORA, "float32"),
        (DORA, "float16"),
        (DORA, "bfloat16"),
        (RANK_STABILISED, "float16"),
        ({**DORA, **RANK_STABILISED}, "bfloat16"),
    ],
)
def test_dora_and_rank_stabilised_scale_are_merged_as_peft_merges_them(tmp_path, family, dtype, lora) -> None:
    base = build(family, tmp_path / "base", dtype=dtype)
    ingredients = ingredients_for(tmp_path / "adapter", base, r=6, **lora)
    merge(ingredients, tmp_path / "fused", CancelToken())
    found = load_file(tmp_path / "fused" / "model.safetensors")
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    expected = PeftModel.from_pretrained(model, ingredients.adapter).merge_and_unload().state_dict()
    untouched = load_file(base / "model.safetensors")
    folded = {"lm_head.weight", "model.norm.weight"}
    assert found.keys() - folded == expected.keys() - folded
    for name in found.keys() - folded:
        assert torch.equal(found[name], expected[name]), name
        assert torch.equal(found[name], untouched[name]) is not name.endswith("proj.weight"), name


def test_a_dora_adapter_without_its_lengths_or_with_other_ones_is_refused(tmp_path: Path) -> None:
    ingredients = ingredients_for(tmp_path / "adapter", build("llama", tmp_path / "base"), use_dora=True)
    path = ingredients.adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    length = "base_model.model.model.layers.0.mlp.up_proj.lora_magnitude_vector"
    for change, sentence in (
        ({length: tensors[length][1:].clone()}, "does not have the shape"),
        ({length: tensors[length] * torch.nan}, "not finite"),
    ):
        save_file(tensors | change, path)
        with pytest.raises(UserError, match=sentence):
            merge(ingredients, tmp_path / "out", CancelToken())
    del tensors[length]
    save_file(tensors, path)
    with pytest.raises(UserError, match="no part of a plain LoRA"):
        merge(ingredients, tmp_path / "out", CancelToken())


@pytest.mark.parametrize(
    ("family", "change", "sentence"),
    [
        ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rotary scaling yarn"),
        ("qwen3", {"hidden_act": "gelu"}, "with silu, but the model uses gelu"),
        ("phi3", {"head_dim": 8}, "heads that add up to the hidden size 64"),
        ("gemma3_text", {"query_pre_attn_scalar": 10}, "scales the queries of this model by 16, but the model by 10"),
        (
            "gemma3_text",
            {"num_hidden_layers": 4, "layer_types": [FULL, SLIDING, SLIDING, FULL]},
            "no word for the order",
        ),
    ],
)
def test_a_variant_that_llama_cpp_computes_otherwise_is_refused_before_its_weights_are_read(
    tmp_path: Path, family: str, change: dict[str, object], sentence: str
) -> None:
    folder = build(family, tmp_path / "base")
    tree = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tree.pop("rope_parameters") if "rope_scaling" in change else None
    (folder / "config.json").write_text(json.dumps(tree | change), encoding="utf-8")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=sentence):
        family_of(ModelFolder(folder))
