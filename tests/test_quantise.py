"""Quantising: every type in every family, in one pass, the same bytes whoever does it, and what is told before."""

import ctypes.util
from pathlib import Path

import gguf
import libgguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from tiny_families import FAMILIES, build

from aegis_core.cancel import CancelToken
from aegis_core.chat.session import TO_TALK_TO, exported_gguf
from aegis_core.data.packed import Packed
from aegis_core.failures import UserError
from aegis_core.gguf_export import dequantised, quantiser
from aegis_core.gguf_export.agreement import check_probabilities, positions
from aegis_core.gguf_export.dequantised import Placement, dequantised_model, placement_of
from aegis_core.gguf_export.draft import Draft, Source
from aegis_core.gguf_export.families import MappedTensor, mapped_tensors
from aegis_core.gguf_export.file_types import FILE_TYPES
from aegis_core.gguf_export.forecast import forecast, require_space
from aegis_core.gguf_export.gguf_file import GgufFile, TableRow, decoded
from aegis_core.gguf_export.llama import LlamaServer
from aegis_core.gguf_export.metadata import Metadata
from aegis_core.gguf_export.model_folder import ModelFolder
from aegis_core.gguf_export.quantiser import LIBGGUF, Candidate, Quantiser, choose_quantiser, known_libraries
from aegis_core.gguf_export.recipe import RECIPES, tensor_types
from aegis_core.gguf_export.verify import check_file
from aegis_core.gguf_export.vocabulary import read_vocabulary
from aegis_core.gguf_export.writer import write_files
from aegis_core.plan import GgufType, Plan
from aegis_core.run_directory import RunDirectory, write_json

QUANTISED = (Type.Q4_K, Type.Q5_K, Type.Q6_K, Type.Q8_0, Type.Q5_0, Type.Q5_1)
IN_LIBGGUF = Quantiser(LIBGGUF, libgguf.quantize_rows)


def source_of(folder: Path) -> Source:
    model = ModelFolder(folder)
    return Source(model, read_vocabulary(folder, model.config.vocab_size), Metadata("tiny", "mit", None))


def write(source: Source, folder: Path, quantiser: Quantiser | None = None) -> dict[str, tuple[GgufFile, str]]:
    """All types in one pass; the files with the writer's hashes."""
    folder.mkdir(exist_ok=True)
    drafts = {kind: Draft(folder / f"{kind}.gguf", source, recipe) for kind, recipe in RECIPES.items()}
    for draft in drafts.values():
        draft.__enter__()
    digests = write_files(list(drafts.values()), source.folder, CancelToken(), lambda done, total: None, quantiser)
    for draft in drafts.values():
        draft.__exit__(None, None, None)
    found = zip(drafts, digests, strict=True)
    return {kind: (GgufFile(folder / f"{kind}.gguf"), digest) for kind, digest in found}


def wide(family: str, folder: Path, hidden: int = 256, **config: object) -> Path:
    """A model whose rows K-quants can take (or cannot), with a head size that llama.cpp's kernels take."""
    heads = hidden // 16
    settings = {"hidden_size": hidden, "num_attention_heads": heads, "intermediate_size": 2 * hidden, **config}
    if family == "phi3":  # within its short rotary factors in llama.cpp's smallest window
        settings |= {"num_key_value_heads": heads, "original_max_position_embeddings": 512}
        settings |= {"max_position_embeddings": 2048}
    return build(family, folder, **settings)


@pytest.mark.parametrize("hidden", [256, 96])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_type_of_every_family_passes_its_checks_and_agrees_with_llama_cpp(tmp_path, family, hidden):
    source = source_of(wide(family, tmp_path / "モデル", hidden, dtype="bfloat16"))
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 300, (4, 12), generator=generator)
    for kind, (file, digest) in write(source, tmp_path / "gguf").items():
        checks = check_file(file, source.folder, RECIPES[kind], CancelToken(), lambda done, total: None, digest)
        model = dequantised_model(file, source.folder, CancelToken())
        places = positions(lambda x, model=model: model(input_ids=x).logits, Packed(ids, ids), CancelToken())[:6]
        with LlamaServer(file.path, n_ctx=64, n_threads=1) as server:
            checks += check_probabilities(server, places, RECIPES[kind], CancelToken())
        assert [check for check in checks if not check.passed] == [], kind


def test_all_lists_of_types_are_the_same():
    assert tuple(FILE_TYPES) == tuple(RECIPES) == GgufType.__args__


def test_several_types_are_written_from_one_reading_of_each_tensor(tmp_path, monkeypatch):
    source = source_of(wide("llama", tmp_path / "model"))
    read: list[str] = []
    plain = ModelFolder.read
    monkeypatch.setattr(ModelFolder, "read", lambda self, name: (read.append(name), plain(self, name))[1])
    together = write(source, tmp_path / "together")
    assert sorted(read) == sorted(source.folder.tensors)
    assert together["q4_k_m"][0].table["blk.0.ffn_up.weight"].type == Type.Q4_K


def test_blocks_of_rows_change_no_byte(tmp_path, monkeypatch):
    source = source_of(wide("qwen2", tmp_path / "model"))
    whole = {kind: digest for kind, (_, digest) in write(source, tmp_path / "whole").items()}
    monkeypatch.setattr("aegis_core.gguf_export.writer.BLOCK_VALUES", 7 * 256)
    assert {kind: digest for kind, (_, digest) in write(source, tmp_path / "pieces").items()} == whole


def test_both_quantisers_make_the_same_files(tmp_path):
    source = source_of(wide("phi3", tmp_path / "model"))
    one = {kind: digest for kind, (_, digest) in write(source, tmp_path / "one", IN_LIBGGUF).items()}
    other = {
        kind: digest for kind, (_, digest) in write(source, tmp_path / "other", choose_quantiser(QUANTISED)).items()
    }
    assert one == other


def test_a_file_that_changed_after_it_was_written_is_seen(tmp_path):
    source = source_of(wide("llama", tmp_path / "model"))
    file, digest = write(source, tmp_path / "gguf")["q6_k"]
    with file.path.open("rb+") as raw:
        raw.seek(-1, 2)
        byte = raw.read(1)[0]
        raw.seek(-1, 2)
        raw.write(bytes([byte ^ 1]))
    checks = check_file(file, source.folder, RECIPES["q6_k"], CancelToken(), lambda done, total: None, digest)
    assert [check.name for check in checks if not check.passed] == ["read back as written"]


@pytest.mark.parametrize("kind", QUANTISED)
def test_numbers_are_read_back_as_gguf_py_reads_them(kind):
    rows = torch.randn(32, 512, generator=torch.Generator().manual_seed(0)).numpy()
    raw = libgguf.quantize_rows(rows, kind)
    row = TableRow("x", kind, (32, 512), 0, raw.nbytes)
    assert np.array_equal(decoded(raw.reshape(-1), row).numpy(), gguf.quants.dequantize(raw, kind))


# --- which quantiser ---------------------------------------------------------------------------------------------


def test_what_cannot_be_called_is_passed_over(tmp_path):
    none = tmp_path / "none.so"
    none.write_bytes(b"no library")
    without = Candidate("C library", Path(ctypes.util.find_library("c") or "libc.so.6"))  # has no such function
    assert choose_quantiser(QUANTISED, [Candidate("torn", none), without]).name == LIBGGUF
    assert choose_quantiser([Type.F16], [Candidate("never asked", none)]).name == LIBGGUF


def test_a_library_with_other_bytes_is_passed_over(monkeypatch):
    def careless(rows: np.ndarray, kind: Type) -> np.ndarray:
        data = libgguf.quantize_rows(rows, kind)
        if kind == Type.Q6_K:
            data[5, 7] ^= 1
        return data

    monkeypatch.setattr(quantiser, "_of_library", lambda library: careless)
    candidate = [Candidate("another build", Path("x"))]
    assert choose_quantiser([Type.Q4_K, Type.Q6_K], candidate).name == LIBGGUF
    assert choose_quantiser([Type.Q4_K], candidate).name == "another build"


def test_libraries_of_ollama_come_after_our_own(tmp_path):
    (tmp_path / "ours").mkdir()
    (tmp_path / "ollama 日本語").mkdir()
    (tmp_path / "ours/xllamacpp.cp311-win_amd64.pyd").touch()
    (tmp_path / "ollama 日本語/ggml-base.dll").touch()
    found = list(known_libraries(lambda: [tmp_path / "absent", tmp_path / "ollama 日本語"], tmp_path / "ours"))
    assert [candidate.name for candidate in found] == ["llama.cpp (xllamacpp)", "llama.cpp (Ollama)"]
    assert found[1].library.name == "ggml-base.dll"


# --- what is told before -----------------------------------------------------------------------------------------


def test_sizes_are_told_before_and_hold(tmp_path):
    source = source_of(wide("smollm", tmp_path / "model", tied=False))
    expected = forecast(source, RECIPES, was_tied=True)
    written = write(source, tmp_path / "gguf")
    for row in expected.files:
        file = written[row.kind][0]
        assert file.n_bytes <= row.n_bytes <= file.n_bytes + 64 * source.folder.config.vocab_size
        assert row.formats == file.tensor_types()
    heads = sum(file.table["output.weight"].n_bytes for file, _ in written.values())
    assert expected.untied_bytes == heads and forecast(source, RECIPES).untied_bytes == 0
    assert expected.seconds > 0


def test_a_full_drive_is_refused(tmp_path):
    with pytest.raises(UserError, match="are free in"):
        require_space(tmp_path, 10**18)


def test_a_value_too_large_for_f16_fits_bf16(tmp_path):
    folder = wide("llama", tmp_path / "model")
    source = source_of(folder)
    plain = MappedTensor.row_blocks

    def large(self: MappedTensor, model: ModelFolder, n: int):  # type: ignore[no-untyped-def]
        for rows in plain(self, model, n):
            yield rows * (1e6 if self.name == "output.weight" else 1)

    def one(kind: str) -> None:
        with Draft(tmp_path / f"{kind}.gguf", source, RECIPES[kind]) as draft:
            write_files([draft], source.folder, CancelToken(), lambda done, total: None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MappedTensor, "row_blocks", large)
        one("bf16")
        with pytest.raises(UserError, match=r"output\.weight holds values .* too large for F16"):
            one("q4_k_m")


@pytest.mark.parametrize(
    ("layers", "kind", "values", "down"),
    [
        (32, "q4_k_s", {**dict.fromkeys(range(4), "Q5_K")}, {**dict.fromkeys(range(4), "Q5_K")}),
        (8, "q4_k_s", {**dict.fromkeys(range(4), "Q5_K")}, {0: "Q5_K"}),
        (8, "q5_k_m", dict.fromkeys((0, 3, 6, 7), "Q6_K"), dict.fromkeys((0, 3, 6, 7), "Q6_K")),
    ],
)
def test_finer_formats_go_where_llama_cpp_puts_them(tmp_path, layers, kind, values, down):
    model = ModelFolder(wide("llama", tmp_path, num_hidden_layers=layers))
    types = {name: k.name for name, k in tensor_types(RECIPES[kind], mapped_tensors(model), model.config).items()}
    default = RECIPES[kind].default.name
    for part, expected in (("attn_v", values), ("ffn_down", down)):
        assert [types[f"blk.{n}.{part}.weight"] for n in range(layers)] == [
            expected.get(n, default) for n in range(layers)
        ]
    assert types["output.weight"] == "Q6_K" and types["token_embd.weight"] == default


# --- measuring a file where memory is short ----------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_kept_in_16_bits_computes_what_it_does_in_32(tmp_path, family):
    source = source_of(wide(family, tmp_path / "model", dtype="bfloat16"))
    written = write(source, tmp_path / "gguf")
    ids = torch.arange(40)[None]
    for kind, kept in (("f16", torch.float16), ("bf16", torch.bfloat16)):
        logits = [
            dequantised_model(written[kind][0], source.folder, CancelToken(), Placement(torch.device("cpu"), dtype))(
                input_ids=ids
            ).logits
            for dtype in (torch.float32, kept)
        ]
        assert logits[1].dtype == torch.float32 and torch.equal(*logits)


def test_a_machine_with_little_memory_keeps_matrices_in_16_bits(tmp_path, monkeypatch):
    file = write(source_of(wide("llama", tmp_path / "model")), tmp_path / "gguf")["q4_k_m"][0]
    monkeypatch.setattr(dequantised, "device_for", lambda n_bytes: torch.device("cpu"))
    assert placement_of(file).kept == torch.float32
    memory = dequantised.psutil.virtual_memory()._replace(available=1_000_000)
    monkeypatch.setattr(dequantised.psutil, "virtual_memory", lambda: memory)
    assert placement_of(file).kept == torch.float16


def test_the_chat_takes_the_file_that_suits_most_machines(tmp_path):
    run = RunDirectory.create(tmp_path / "run", Plan())
    folder = run.step_folder("export")
    folder.mkdir()
    assert set(TO_TALK_TO) == set(FILE_TYPES)
    for kinds, expected in ((("f32", "f16", "q8_0"), "q8_0"), (("f16", "q5_k_m", "q4_k_m"), "q4_k_m")):
        for kind in kinds:
            (folder / f"{kind}.gguf").touch()
        write_json(folder / "files.json", [{"path": f"export/{kind}.gguf", "type": kind} for kind in kinds])
        assert exported_gguf(run).stem == expected
