"""Phi-3.5: a tiny model of its shape, with its own tokenizer, goes through the whole ritual."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from gguf import TokenType
from transformers import AutoConfig, Phi3ForCausalLM

from aegis_core import plan as plans
from aegis_core.cancel import CancelToken
from aegis_core.chat.prompt import ChatPrompts
from aegis_core.data.packed import Packed
from aegis_core.failures import UserError
from aegis_core.gguf_export.agreement import check_probabilities, check_tokens, positions
from aegis_core.gguf_export.checks import Check
from aegis_core.gguf_export.dequantised import dequantised_model
from aegis_core.gguf_export.gguf_file import GgufFile
from aegis_core.gguf_export.llama import LlamaServer
from aegis_core.gguf_export.metadata import Metadata
from aegis_core.gguf_export.model_folder import ModelFolder
from aegis_core.gguf_export.naming import name_for_llama_cpp
from aegis_core.gguf_export.recipe import RECIPES
from aegis_core.gguf_export.vocabulary import read_vocabulary
from aegis_core.gguf_export.writer import Source, write_gguf
from aegis_core.models.loading import load_tokenizer
from aegis_core.run_directory import RunDirectory, read_json

REFERENCE = Path(__file__).parents[2] / "shared" / "reference" / "phi-3.5-mini"
if not (REFERENCE / "tokenizer.model").is_file():
    pytest.skip(f"no Phi-3.5 tokenizer in {REFERENCE}", allow_module_level=True)

N_ROWS, N_TOKENS = 32064, 32011
QUESTIONS = [
    ("時間はなぜ不可逆なのですか？", "エントロピーが増えるからです。"),
    ("What is entropy?", "A count of microstates; it grows with time in an isolated system."),
    ("光の速さは？", "毎秒およそ三十万キロメートルです。"),
    ("What does mass do?", "It bends spacetime, and things fall along the bend."),
    ("虹はなぜ見える？", "水滴が光を分けるからです。"),
    ("Why is the sky blue?", "Short waves are scattered more by air."),
]


def tiny_phi(folder: Path, **changes: object) -> Path:
    """Two layers of random weights in half precision, everything else as published, remote code pointers included."""
    shutil.copytree(REFERENCE, folder)
    for file in folder.iterdir():
        file.chmod(0o644)
    tree = read_json(folder / "config.json") | {"num_hidden_layers": 2, "num_attention_heads": 4} | changes
    n_factors = tree["hidden_size"] // tree["num_attention_heads"] // 2
    for name in ("long_factor", "short_factor"):
        published = tree["rope_scaling"][name]
        tree["rope_scaling"][name] = [published[i * len(published) // n_factors] for i in range(n_factors)]
    text = json.dumps(tree)
    (folder / "config.json").write_text(text, encoding="utf-8")
    torch.manual_seed(0)
    model = Phi3ForCausalLM(AutoConfig.from_pretrained(folder))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2) if "norm" in name else parameter.normal_(0, 0.08)
    model.half().save_pretrained(folder)
    (folder / "config.json").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def phi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wide enough for K-quants."""
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_key_value_heads": 2}
    return tiny_phi(tmp_path_factory.mktemp("phi") / "素体 Phi", **sizes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, phi: Path) -> RunDirectory:
    """The whole ritual, four steps of training, in a process of its own."""
    folder = tmp_path_factory.mktemp("run")
    data = folder / "質問.jsonl"
    rows = [{"question": f"{n}. {q}", "answer": a} for n in range(6) for q, a in QUESTIONS]
    data.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    changes = {
        "model.source": str(phi),
        "data.source": str(data),
        "data.sequence_length": 48,
        "train.steps": 4,
        "train.evaluate_steps": 4,
        "train.checkpoint_steps": 4,
        "train.warmup_steps": 1,
        "lora.rank": 4,
        "chat.n_questions": 1,
        "chat.max_tokens": 32,
        "chat.backend": "embedded",
    }
    run = RunDirectory.create(folder / "ri tual 日本語", plans.changed(plans.Plan(), changes))
    command = [sys.executable, "-m", "aegis_core", "run", str(run.path)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return run


@pytest.mark.timeout(300)
def test_the_ritual_ends_in_verified_files(finished: RunDirectory) -> None:
    indicators = read_json(finished.path / "report.json")["indicators"]
    green = {"training_completed", "alpha_reached", "soul_saved", "fusion_equal", "gguf_verified"}
    assert {name for name in indicators if indicators[name]["status"] == "pass"} == green
    files = {row["type"]: row for row in read_json(finished.path / "export" / "files.json")}
    checks = [check for row in files.values() for check in row["checks"]]
    assert all(check["passed"] for check in checks) and len(checks) >= 20
    assert files["q4_k_m"]["tensor_types"] == {"F32": 7, "Q4_K": 7, "Q6_K": 3}  # as llama-quantize has it


def test_the_adapter_sits_on_the_fused_projections(finished: RunDirectory) -> None:
    config = read_json(finished.path / "train" / "adapter" / "adapter_config.json")
    assert set(config["target_modules"]) == {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}


def test_the_fused_folder_needs_no_foreign_code_and_keeps_the_tokenizer(finished: RunDirectory) -> None:
    folder = finished.path / "fuse" / "model"
    assert "auto_map" not in read_json(folder / "config.json")
    for name in ("tokenizer.model", "tokenizer.json", "added_tokens.json", "chat_template.jinja"):
        assert (folder / name).read_bytes() == (REFERENCE / name).read_bytes()


def test_the_header_is_that_of_llama_cpps_own_converter(finished: RunDirectory) -> None:
    row = next(row for row in read_json(finished.path / "export" / "files.json") if row["type"] == "f16")
    file = GgufFile(finished.path / row["path"])
    assert {key: file.value(key) for key in HEADER} == pytest.approx(HEADER)
    assert "phi-3" in file.value("general.name").lower()  # by this llama.cpp knows how the tokenizer strips blanks
    for which in ("long", "short"):
        factors = file.values(f"rope_factors_{which}.weight")
        assert factors.shape == (32,) and factors[0] == pytest.approx(1.0 if which == "short" else 1.08)
    assert file.table["blk.1.attn_qkv.weight"].shape == (256 + 2 * 128, 256)
    assert file.table["blk.1.ffn_up.weight"].shape == (1024, 256)


HEADER = {
    "general.architecture": "phi3",
    "phi3.context_length": 131072,
    "phi3.rope.scaling.original_context_length": 4096,
    "phi3.rope.scaling.attn_factor": 1.1902380714238083,  # √(1 + ln 32 / ln 4096)
    "phi3.rope.dimension_count": 64,
    "phi3.rope.freq_base": 10000.0,
    "phi3.attention.sliding_window": 262144,
    "phi3.attention.head_count": 4,
    "phi3.attention.head_count_kv": 2,
    "phi3.attention.layer_norm_rms_epsilon": 1e-5,
    "phi3.embedding_length": 256,
    "phi3.feed_forward_length": 512,
    "phi3.block_count": 2,
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.pre": "default",
    "tokenizer.ggml.tokens": N_ROWS,
    "tokenizer.ggml.scores": N_ROWS,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 32000,
    "tokenizer.ggml.unknown_token_id": 0,
    "tokenizer.ggml.padding_token_id": 32000,
    "tokenizer.ggml.add_bos_token": False,
    "tokenizer.ggml.add_eos_token": False,
    "tokenizer.chat_template": (REFERENCE / "chat_template.jinja").read_text(encoding="utf-8"),
}


def test_the_vocabulary_is_the_one_of_tokenizer_model_with_the_added_tokens(phi: Path) -> None:
    vocabulary = read_vocabulary(phi, N_ROWS)
    rows = vocabulary.rows
    assert len(rows.texts) == len(rows.types) == len(rows.scores) == N_ROWS
    n = Counter(rows.types)
    assert n[TokenType.BYTE] == 256 and n[TokenType.UNUSED] == N_ROWS - N_TOKENS
    assert (rows.texts[3], rows.types[3]) == ("<0x00>", TokenType.BYTE)
    assert (rows.texts[2], rows.types[2], rows.scores[2]) == ("</s>", TokenType.USER_DEFINED, -1000.0)
    assert (rows.texts[32007], rows.types[32007], rows.scores[32007]) == ("<|end|>", TokenType.CONTROL, -1000.0)
    assert (rows.texts[260:262], rows.scores[260:262]) == (("▁t", "er"), (-1.0, -2.0))
    assert (rows.texts[32063], rows.scores[32063]) == ("[PAD32063]", -10000.0)
    assert vocabulary.strips_like_phi3 and vocabulary.add_space_prefix and not vocabulary.add_bos


def test_a_tokenizer_model_of_another_tokenizer_is_refused(phi: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(phi, tmp_path / "mixed"))
    raw = (folder / "tokenizer.model").read_bytes()
    the = "▁the".encode()
    for changed, sentence in (
        (raw.replace(the, the[:-1] + b"x", 1), "differ"),
        (raw.replace(the, the[:-1] + b"\xc3", 1), "not readable"),
        (raw[: len(raw) // 2], "not readable"),
    ):
        (folder / "tokenizer.model").write_bytes(changed)
        with pytest.raises(UserError, match=sentence):
            read_vocabulary(folder, N_ROWS)


def test_the_chat_template_is_understood_and_its_stops_are_known(phi: Path) -> None:
    prompts = ChatPrompts(phi)
    assert prompts.format.opening == "<|assistant|>\n"
    assert {"<|end|>", "<|endoftext|>", "<|user|>"} <= set(prompts.stops)
    messages = [{"role": "system", "content": "簡潔に。"}, {"role": "user", "content": "なぜ？"}]
    assert prompts.format.render(messages) == prompts.text(messages)


@pytest.mark.parametrize("original", [4096, 64])
def test_short_and_long_factors_are_those_of_transformers(tmp_path: Path, original: int) -> None:
    """Beyond the original context llama.cpp and transformers both take the long factors."""
    folder = narrow_phi(tmp_path / "phi", original)
    checks = asked(folder, tmp_path / "phi.gguf")
    assert not [check for check in checks if not check.passed]


def test_exchanged_factors_are_noticed(tmp_path: Path) -> None:
    folder = narrow_phi(tmp_path / "phi", 4096)
    tree = read_json(folder / "config.json")
    rope = tree["rope_scaling"]
    rope["long_factor"], rope["short_factor"] = rope["short_factor"], rope["long_factor"]
    written = narrow_phi(tmp_path / "written", 4096)
    (written / "config.json").write_text(json.dumps(tree), encoding="utf-8")
    checks = asked(written, tmp_path / "phi.gguf", torch_folder=folder)
    assert "llama.cpp: its log probability" in {check.name for check in checks if not check.passed}


def narrow_phi(folder: Path, original: int) -> Path:
    return tiny_phi(
        folder,
        hidden_size=64,
        intermediate_size=128,
        num_key_value_heads=4,
        original_max_position_embeddings=original,
    )


def asked(folder: Path, file: Path, torch_folder: Path | None = None) -> list[Check]:
    """llama.cpp's tokens and probabilities of the folder's F16 file, held against torch."""
    write_f16(folder, file)
    torch_model = dequantised_model(GgufFile(file), ModelFolder(torch_folder or folder), CancelToken())
    ids = torch.randint(3, 31999, (6, 96), generator=torch.Generator().manual_seed(1))
    places = positions(lambda ids: torch_model(input_ids=ids).logits, Packed(ids, ids.clone()), CancelToken())
    with LlamaServer(file, n_ctx=512) as server:
        checks = [check_tokens(server, load_tokenizer(folder))]
        return checks + check_probabilities(server, places, RECIPES["f16"], CancelToken())


def write_f16(folder: Path, file: Path) -> None:
    source = Source(ModelFolder(folder), read_vocabulary(folder, N_ROWS), Metadata("tiny", "mit", None))
    write_gguf(file, source, RECIPES["f16"], CancelToken(), lambda done, total: None)


def test_names_carry_the_mark_that_llama_cpp_looks_for_and_no_other() -> None:
    assert name_for_llama_cpp("org/Borea-Phi-3.5-mini", True) == "org/Borea-Phi-3.5-mini"
    assert name_for_llama_cpp("my soul", True) == "my soul (Phi-3)"
    assert name_for_llama_cpp("my soul", False) == "my soul"
    assert name_for_llama_cpp("better-than-phi3", False) == "better-than-Phi 3"


def test_a_name_without_the_mark_would_make_llama_cpp_read_other_tokens(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("aegis_core.gguf_export.metadata.name_for_llama_cpp", lambda name, strips: name)
    folder = narrow_phi(tmp_path / "phi", 4096)
    write_f16(folder, tmp_path / "phi.gguf")
    with LlamaServer(tmp_path / "phi.gguf", n_ctx=256) as server:
        assert not check_tokens(server, load_tokenizer(folder)).passed
