"""Export: GGUF files that llama.cpp computes with as torch does, and every kind of damage turning red."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from aegis_core.cancel import Cancelled, CancelToken
from aegis_core.context import StepContext
from aegis_core.data.packed import Packed, save_packed
from aegis_core.evaluation.quality import read_quality
from aegis_core.events import Event, Progress, Verdict
from aegis_core.failures import UserError
from aegis_core.fusion.ingredients import RECORD, gather
from aegis_core.gguf_export import agreement, families
from aegis_core.gguf_export.families import llama, mapped_tensors
from aegis_core.gguf_export.gguf_file import GgufFile
from aegis_core.gguf_export.llama import LlamaServer
from aegis_core.gguf_export.model_folder import ModelFolder
from aegis_core.gguf_export.native_path import Platform, native_path
from aegis_core.gguf_export.pre_tokenizer import pre_tokenizer_name
from aegis_core.gguf_export.recipe import RECIPES, tensor_types
from aegis_core.models.identity import BaseModel, write_base
from aegis_core.plan import Plan, changed
from aegis_core.run_directory import RunDirectory, read_json, write_json
from aegis_core.soul.gate import Soul
from aegis_core.steps import export

TEXTS = [
    "The entropy of an isolated system never decreases; time has a direction.",
    "時間はなぜ不可逆なのですか？エントロピーが増えるからです。",
    "def f(x):\n    return x ** 2\n\n1234 + 5678 = 6912 don't we'll 😀 café",
]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
N_ROWS = 640  # more than the tokenizer has tokens


def export_tokenizer(folder: Path) -> None:
    """A real byte-level BPE that cuts digits singly, as SmolLM's does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)


def export_model(folder: Path, hidden: int = 256, **settings: object) -> Path:
    """A 2-layer Llama whose weights are large enough for every mistake to show in its probabilities."""
    torch.manual_seed(0)
    defaults = {
        "vocab_size": N_ROWS,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.08,
        "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0},
        "tie_word_embeddings": False,
    }
    LlamaForCausalLM(LlamaConfig(**{**defaults, **settings})).save_pretrained(folder)
    export_tokenizer(folder)
    return folder


def export_run(root: Path, folder: Path, **settings: object) -> RunDirectory:
    """A run in which everything before export has happened."""
    plan = changed(Plan(), {"chat.model_name": "org/my-model", **settings})
    run = RunDirectory.create(root, plan)
    for step in ("prepare", "train", "fuse"):
        run.step_folder(step).mkdir()
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 400, (6, 48), generator=generator)
    save_packed(run.step_folder("prepare") / "held_out.safetensors", Packed(ids, ids))
    write_base(run, BaseModel("org/base", "abc", str(folder), "ff" * 32, "mit", "LlamaForCausalLM", 1, 8, 8, False))
    soul = Soul(1.618, torch.zeros(2, 28), True, "org/base", "abc", "ff" * 32)
    soul.save(run.step_folder("train") / "soul.safetensors")
    adapter = run.step_folder("train") / "adapter"
    adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (adapter / name).write_bytes(b"read by the fusion only")
    model = Path(shutil.copytree(folder, run.step_folder("fuse") / "model"))
    record_fusion(run, model)
    write_json(run.step_folder("fuse") / "proof.json", {"folder": "fuse/model"})
    return run


def record_fusion(run: RunDirectory, model: Path) -> None:
    """The record that fusion leaves in the folder, of the files as they are now."""
    ingredients = gather(run)
    files = {path.name: {"bytes": path.stat().st_size, "sha256": ""} for path in model.iterdir()}
    write_json(model / RECORD, ingredients.origin | {"run": ingredients.run, "files": files})


def run_export(run: RunDirectory, cancel: CancelToken | None = None, sink: Callable[[Event], None] | None = None):
    events: list[Event] = []

    def collect(event: Event) -> None:
        events.append(event)
        if sink:
            sink(event)

    export.run(run.plan(), StepContext(run, "export", collect, cancel or CancelToken()))
    return events


@pytest.fixture(scope="module")
def export_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_model(tmp_path_factory.mktemp("model") / "融合 model")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, export_folder: Path) -> tuple[RunDirectory, list[Event]]:
    run = export_run(tmp_path_factory.mktemp("run") / "ri tual 日本語", export_folder)
    return run, run_export(run)


@pytest.fixture
def copied(tmp_path: Path, exported: tuple[RunDirectory, list[Event]]) -> RunDirectory:
    """The finished run once more, to be damaged."""
    shutil.copytree(exported[0].path, tmp_path / "copy 日本語")
    return RunDirectory.open(tmp_path / "copy 日本語")


@pytest.fixture
def without_permutation(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The commonest mistake of a converter: writer, reader and torch agree among themselves, llama.cpp does not."""
    monkeypatch.setattr(llama, "interleave", lambda weight, n_heads: weight)
    monkeypatch.setattr(llama, "deinterleave", lambda weight, n_heads: weight)
    yield


def failed(verdicts: list) -> list[str]:
    return [v.name for v in verdicts if isinstance(v, Verdict) and v.status == "fail"]


def gguf_path(run: RunDirectory, kind: str) -> Path:
    return next(run.path / row["path"] for row in read_json(run.path / "export/files.json") if row["type"] == kind)


# --- the whole step ---------------------------------------------------------------------------------------------


def test_both_files_are_written_verified_and_measured(exported):
    run, events = exported
    rows = {row["type"]: row for row in read_json(run.path / "export/files.json")}
    assert [Path(rows[kind]["path"]).name for kind in ("f16", "q4_k_m")] == [
        "org-my-model-F16.gguf",
        "org-my-model-Q4_K_M.gguf",
    ]
    assert not failed(events)
    names = {event.name for event in events if isinstance(event, Verdict)}
    assert {"F16: llama.cpp: its log probability", "Q4_K_M: tensors equal their source"} <= names
    assert all(check["passed"] for row in rows.values() for check in row["checks"])
    assert set(read_json(run.path / "export/quality.json")) == {"f16", "q4_k_m"}
    assert rows["q4_k_m"]["bytes"] < 0.5 * rows["f16"]["bytes"]
    assert {event.unit for event in events if isinstance(event, Progress)} >= {"bytes", "positions"}


def test_a_row_of_256_gets_k_quants(exported):
    run, _ = exported
    types = GgufFile(gguf_path(run, "q4_k_m")).tensor_types()
    assert set(types) == {"F32", "Q4_K", "Q6_K"}
    assert GgufFile(gguf_path(run, "q4_k_m")).table["output.weight"].type.name == "Q6_K"


def test_a_finished_run_verifies(exported):
    run, _ = exported
    verdicts = export.verify(run)
    assert len(verdicts) == 12 and not failed(verdicts)


def test_the_header_says_where_the_file_comes_from(exported):
    file = GgufFile(gguf_path(exported[0], "f16"))
    assert file.value("general.name") == "org/my-model"
    assert file.value("general.license") == "mit"
    assert file.value("general.base_model.0.name") == "org/base"
    assert file.value("aegis.alpha") == pytest.approx(1.618, abs=1e-6)
    assert file.value("aegis.sigma") == pytest.approx(0.83449, abs=1e-4)
    assert file.value("tokenizer.ggml.pre") == "smollm"
    assert file.value("tokenizer.ggml.add_bos_token") is False
    assert file.value("tokenizer.chat_template") == TEMPLATE
    assert file.value("tokenizer.ggml.tokens") == N_ROWS


def test_the_measured_loss_is_that_of_the_folder(exported, export_folder):
    model = LlamaForCausalLM.from_pretrained(export_folder, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 400, (6, 48), generator=generator)
    with torch.no_grad():
        expected = model(input_ids=ids, labels=ids).loss.item()
    quality = read_json(exported[0].path / "export/quality.json")
    assert quality["f16"]["loss"] == pytest.approx(expected, abs=2e-3)
    assert quality["q4_k_m"]["loss"] == pytest.approx(expected, abs=0.3)


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden": 96, "head_dim": 16},
        {"tie_word_embeddings": True, "attention_bias": True},
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            }
        },
    ],
    ids=["narrow", "tied with biases", "llama3 rope"],
)
def test_variants_agree_with_llama_cpp(tmp_path, settings):
    run = export_run(tmp_path / "run", export_model(tmp_path / "model", **settings), **{"export.types": ("f16",)})
    events = run_export(run)
    assert not failed(events)
    file = GgufFile(gguf_path(run, "f16"))
    assert ("output.weight" in file.table) is not settings.get("tie_word_embeddings", False)
    assert ("rope_freqs.weight" in file.table) is ("rope_parameters" in settings)
    assert file.table["output_norm.weight"].type.name == "F32"


def test_the_files_go_where_the_user_wants_them(tmp_path, export_folder):
    elsewhere = tmp_path / "別のドライブ D"
    settings = {"export.types": ("q4_k_m",), "export.directory": str(elsewhere)}
    run = export_run(tmp_path / "run", export_folder, **settings)
    run_export(run)
    assert [path.name for path in elsewhere.iterdir()] == ["org-my-model-Q4_K_M.gguf"]
    assert gguf_path(run, "q4_k_m") == elsewhere.resolve() / "org-my-model-Q4_K_M.gguf"
    assert not failed(export.verify(run))


def test_a_file_of_another_run_is_left_alone_and_an_earlier_one_of_this_run_replaced(tmp_path, export_folder):
    shared = tmp_path / "GGUF 置き場"
    settings = {"export.types": ("q4_k_m",), "export.directory": str(shared)}
    first, second = (export_run(tmp_path / name, export_folder, **settings) for name in ("one", "two"))
    run_export(first)
    path = gguf_path(first, "q4_k_m")
    whole = path.read_bytes()
    with pytest.raises(UserError, match="not made by this run"):
        run_export(second)
    assert path.read_bytes() == whole and not failed(export.verify(first))
    run_export(first)
    path.write_bytes(b"somebody's notes")
    with pytest.raises(UserError, match="not made by this run"):
        run_export(first)
    assert path.read_bytes() == b"somebody's notes"


def test_a_file_that_another_run_made_meanwhile_is_left_alone(tmp_path, export_folder):
    shared = tmp_path / "shared"
    run = export_run(tmp_path / "run", export_folder, **{"export.types": ("q4_k_m",), "export.directory": str(shared)})

    def quicker(event: Event) -> None:
        (shared / "org-my-model-Q4_K_M.gguf").write_bytes(b"of another run")

    with pytest.raises(UserError, match="not made by this run"):
        run_export(run, sink=quicker)
    assert [path.read_bytes() for path in shared.iterdir()] == [b"of another run"]


def test_a_folder_that_holds_the_model_of_another_run_is_not_exported(tmp_path, export_folder):
    first, second = (export_run(tmp_path / name, export_folder) for name in ("one", "two"))
    write_json(first.step_folder("fuse") / "proof.json", {"folder": str(second.step_folder("fuse") / "model")})
    with pytest.raises(UserError, match="is not the one this run fused"):
        run_export(first)


# --- damage turns red -------------------------------------------------------------------------------------------


def test_a_flipped_byte_is_seen(copied):
    path = gguf_path(copied, "q4_k_m")
    row = GgufFile(path).table["blk.1.ffn_up.weight"]
    with path.open("rb+") as file:
        file.seek(row.offset + row.n_bytes // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    assert failed(export.verify(copied)) == ["Q4_K_M: SHA-256"]


def test_a_truncated_file_is_seen(copied):
    path = gguf_path(copied, "f16")
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size - 4096)
    assert failed(export.verify(copied)) == ["F16: file"]


def test_a_file_that_is_gone_is_seen(copied):
    gguf_path(copied, "f16").unlink()
    assert failed(export.verify(copied)) == ["F16: file"]


def test_a_wrong_tensor_is_seen_by_its_values(copied):
    path = gguf_path(copied, "f16")
    table = GgufFile(path).table
    one, other = table["blk.0.ffn_up.weight"], table["blk.1.ffn_up.weight"]
    data = bytearray(path.read_bytes())
    data[one.offset : one.offset + one.n_bytes] = data[other.offset : other.offset + other.n_bytes]
    path.write_bytes(data)
    assert failed(export.verify(copied)) == ["F16: SHA-256", "F16: tensors equal their source"]


def test_a_value_that_is_not_finite_is_seen(copied):
    path = gguf_path(copied, "f16")
    row = GgufFile(path).table["output.weight"]
    with path.open("rb+") as file:
        file.seek(row.offset)
        file.write(np.float16(np.nan).tobytes())
    assert "F16: values are finite" in failed(export.verify(copied))


def test_another_row_order_is_seen_by_the_file_check(exported, without_permutation):
    assert "F16: tensors equal their source" in failed(export.verify(exported[0]))


def test_a_file_that_llama_cpp_computes_otherwise_gets_no_name(tmp_path, export_folder, without_permutation):
    run = export_run(tmp_path / "run", export_folder, **{"export.types": ("f16",)})
    with pytest.raises(UserError, match=r"llama\.cpp"):
        run_export(run)
    assert not list(run.step_folder("export").glob("*.gguf*"))


@pytest.mark.parametrize("content", [b"", b"GGUF", b"\0" * 100, b"GGUF\x03\0\0\0" + b"\xff" * 200])
def test_what_is_no_gguf_is_refused_in_one_sentence(tmp_path, content):
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(UserError):
        GgufFile(path)


def test_llama_cpp_refuses_a_damaged_file(copied):
    path = gguf_path(copied, "f16")
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(UserError, match="cannot load"), LlamaServer(path, n_ctx=64):
        pass


# --- what goes in -----------------------------------------------------------------------------------------------


def test_an_unknown_architecture_is_refused_by_name(tmp_path, export_folder):
    shutil.copytree(export_folder, tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text(encoding="utf-8"))
    (tmp_path / "model/config.json").write_text(
        json.dumps({**config, "architectures": ["GPT2LMHeadModel"]}), encoding="utf-8"
    )
    with pytest.raises(UserError, match="GPT2LMHeadModel yet; it knows LlamaForCausalLM, MistralForCausalLM"):
        families.family_of(ModelFolder(tmp_path / "model"))


@pytest.mark.parametrize("change", ["lack", "extra", "shape", "nan", "truncated", "missing"])
def test_a_damaged_model_folder_is_refused(tmp_path, export_folder, change):
    folder = tmp_path / "model"
    shutil.copytree(export_folder, folder)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    if change == "lack":
        del tensors["model.layers.1.mlp.up_proj.weight"]
    elif change == "extra":
        tensors["model.layers.2.mlp.up_proj.weight"] = torch.zeros(2, 2)
    elif change == "shape":
        tensors["lm_head.weight"] = tensors["lm_head.weight"][:-1].contiguous()
    elif change == "nan":
        tensors["lm_head.weight"][3, 4] = torch.nan
    save_file(tensors, file, {"format": "pt"})
    if change == "truncated":
        file.write_bytes(file.read_bytes()[:-1000])
    elif change == "missing":
        file.unlink()
    run = export_run(tmp_path / "run", folder)
    with pytest.raises(UserError):
        run_export(run)
    assert not list(run.step_folder("export").glob("*.gguf*"))


def test_an_index_that_points_elsewhere_is_refused(tmp_path, export_folder):
    shutil.copytree(export_folder, tmp_path / "model")
    index = {"weight_map": {"lm_head.weight": "../secret.safetensors"}}
    (tmp_path / "model/model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(UserError, match="not a weight file in its own folder"):
        _ = ModelFolder(tmp_path / "model").tensors


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
SPLIT = {"type": "Split", "behavior": "Isolated", "invert": False}
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def definition(*parts: dict, ignore_merges: bool = False, normalizer: str | None = None) -> dict:
    return {
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": list(parts)} if len(parts) > 1 else parts[0],
        "normalizer": {"type": normalizer} if normalizer else None,
        "model": {"ignore_merges": ignore_merges},
    }


def test_pre_tokenizers_are_known_by_their_definition():
    words = {**BYTES, "use_regex": False}
    llama3 = {**SPLIT, "pattern": {"Regex": LLAMA3}}
    qwen2 = {**SPLIT, "pattern": {"Regex": LLAMA3.replace("{1,3}", "")}}
    assert pre_tokenizer_name(definition(BYTES)) == "gpt-2"
    assert pre_tokenizer_name(definition({"type": "Digits", "individual_digits": True}, BYTES)) == "smollm"
    assert pre_tokenizer_name(definition(llama3, words, ignore_merges=True)) == "llama-bpe"
    assert pre_tokenizer_name(definition(qwen2, words, normalizer="NFC")) == "qwen2"


@pytest.mark.parametrize(
    "unknown",
    [
        definition({**SPLIT, "pattern": {"Regex": r"\w+"}}, BYTES),
        definition({**BYTES, "add_prefix_space": True}),
        definition(BYTES, normalizer="Lowercase"),
        definition(BYTES, ignore_merges=True),
    ],
    ids=["regex", "prefix space", "normaliser", "whole words"],
)
def test_an_unknown_pre_tokenizer_is_refused(unknown):
    with pytest.raises(UserError, match="no name for"):
        pre_tokenizer_name(unknown)


# --- formats ----------------------------------------------------------------------------------------------------


def types_of(folder: Path) -> dict[str, str]:
    model = ModelFolder(folder)
    types = tensor_types(RECIPES["q4_k_m"], mapped_tensors(model), model.config)
    return {name: kind.name for name, kind in types.items()}


def test_narrow_rows_fall_back_as_in_llama_cpp(tmp_path):
    types = types_of(export_model(tmp_path, hidden=96))
    assert types["blk.0.attn_q.weight"] == "Q5_0"
    assert types["token_embd.weight"] == "Q5_0"
    assert types["output.weight"] == "Q8_0"
    assert types["blk.1.ffn_down.weight"] == "Q8_0"  # 192 columns, one of the layers with more bits


def test_six_bits_go_to_the_layers_llama_cpp_gives_them(tmp_path):
    types = types_of(export_model(tmp_path, hidden=256, num_hidden_layers=32, intermediate_size=256))
    six = [layer for layer in range(32) if types[f"blk.{layer}.attn_v.weight"] == "Q6_K"]
    assert six == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    assert six == [layer for layer in range(32) if types[f"blk.{layer}.ffn_down.weight"] == "Q6_K"]
    assert types["blk.0.ffn_norm.weight"] == "F32"
    assert types["blk.0.attn_q.weight"] == "Q4_K"


def test_interleaving_has_an_inverse_and_pairs_the_halves():
    rows = torch.arange(16.0)[:, None]
    assert llama.interleave(rows, 2).flatten().tolist()[:8] == [0, 4, 1, 5, 2, 6, 3, 7]
    assert torch.equal(llama.deinterleave(llama.interleave(rows, 2), 2), rows)


# --- agreement --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "length", "expected"),
    [(6, 48, 36), (100, 2, 36), (1, 40, 36), (1, 36, 36), (13, 3, 36), (5, 4, 20)],
)
def test_llama_cpp_is_asked_at_enough_places_or_at_all_there_are(n, length, expected):
    ids = torch.arange(n * length).reshape(n, length)
    places = agreement.positions(lambda ids: torch.zeros(*ids.shape, 7), Packed(ids, ids), CancelToken())
    assert expected <= len(places) < expected + 12
    assert len({tuple(place.prompt) for place in places}) == len(places)


def test_a_check_at_few_places_says_so():
    class Server:
        def next_token_probabilities(self, prompt: list[int], n: int) -> list[tuple[int, float]]:
            return [(0, 0.0)]

    place = agreement.Position([1], torch.tensor([0.0, -9.0]))
    few, many = (
        agreement.check_probabilities(Server(), [place] * n, RECIPES["f16"], CancelToken())[0] for n in (20, 36)
    )
    assert few.measured == "the same at 20 of 20 positions, which are all that the held-out data has"
    assert many.measured == "the same at 36 of 36 positions"


# --- interruptions ----------------------------------------------------------------------------------------------


def test_a_finished_file_survives_an_interruption(tmp_path, export_folder):
    run = export_run(tmp_path / "run", export_folder)
    token = CancelToken()

    def stop_at_q4(event: Event) -> None:
        if isinstance(event, Progress) and event.phase == "checking Q4_K_M":
            token.cancel()

    with pytest.raises(Cancelled):
        run_export(run, token, stop_at_q4)
    assert [path.name for path in run.step_folder("export").glob("*.gguf*")] == ["org-my-model-F16.gguf"]
    events = run_export(run)
    phases = {event.phase for event in events if isinstance(event, Progress)}
    assert "writing Q4_K_M" in phases and not any(phase.startswith("writing F16") for phase in phases)
    assert len(read_json(run.path / "export/files.json")) == 2


def test_a_wish_for_more_tokens_of_kl_measures_again_and_writes_nothing_again(tmp_path, export_folder):
    run = export_run(tmp_path / "run", export_folder, **{"export.types": ("f16",), "evaluation.kl_tokens": 40})
    run_export(run)
    before = read_json(run.path / "export/files.json")
    run.write_plan(changed(run.plan(), {"evaluation.kl_tokens": 50}))
    phases = {event.phase for event in run_export(run) if isinstance(event, Progress)}
    assert "measuring F16" in phases and not phases & {"writing F16", "checking F16", "comparing F16 with llama.cpp"}
    assert read_json(run.path / "export/files.json") == before
    assert read_quality(run.path / "export/quality.json")["f16"].kl_tokens == 50


def test_a_finished_file_of_other_content_is_made_again(tmp_path, export_folder):
    run = export_run(tmp_path / "run", export_folder, **{"export.types": ("f16",)})
    run_export(run)
    row = read_json(run.path / "export/files.json")[0]
    record = {"content": "of another model", "path": str(run.path / row["path"]), "row": row, "quality": {}}
    write_json(run.path / "export/finished-f16.json", record)
    assert "writing F16" in {event.phase for event in run_export(run) if isinstance(event, Progress)}


def test_too_little_space_is_said_before_anything_is_written(tmp_path, export_folder, monkeypatch):
    run = export_run(tmp_path / "run", export_folder)
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"but only 0\.00 GB are free"):
        run_export(run)
    assert not list(run.step_folder("export").iterdir())


# --- llama.cpp --------------------------------------------------------------------------------------------------


def test_a_stream_stops_when_told_and_carries_errors_out(exported):
    with LlamaServer(gguf_path(exported[0], "f16"), n_ctx=128) as server:
        chunks: list[dict] = []

        def two(chunk: dict) -> bool:
            chunks.append(chunk)
            return len(chunks) < 2

        server.stream_completion({"prompt": [5, 6, 7], "max_tokens": 20}, two)
        assert len(chunks) == 2
        with pytest.raises(ZeroDivisionError):
            server.stream_completion({"prompt": [5, 6, 7], "max_tokens": 5}, lambda chunk: bool(1 / 0))
        with pytest.raises(UserError, match="exceeds the available context size"):
            server.complete({"prompt": [5] * 400, "max_tokens": 1})


def windows(short: str | None, folders: list[Path]) -> Platform:
    return Platform(ascii_only=True, short_name=lambda path: short, ascii_folders=lambda path: folders)


def test_native_programs_get_a_name_they_can_open(tmp_path):
    path = tmp_path / "日本語.gguf"
    path.write_bytes(b"GGUF")
    plain = tmp_path / "plain.gguf"
    with native_path(path, Platform(False, lambda p: None, lambda p: [])) as same:
        assert same == path
    with native_path(plain, windows(None, [])) as same:
        assert same == plain
    with native_path(path, windows("C:/SHORT~1.GGU", [])) as short:
        assert short == Path("C:/SHORT~1.GGU")
    with native_path(path, windows("C:/短い~1.GGU", [tmp_path / "一時", tmp_path])) as link:
        assert str(link).isascii() and link.read_bytes() == b"GGUF"
    assert sorted(tmp_path.iterdir()) == [path]


def test_without_any_plain_folder_the_user_is_told(tmp_path):
    with pytest.raises(UserError, match="letters beyond ASCII"), native_path(tmp_path / "本", windows(None, [])):
        pass
