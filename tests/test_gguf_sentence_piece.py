"""SentencePiece vocabularies: written from tokenizer.model, they make llama.cpp cut texts as the tokenizer does."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from gguf import TokenType
from tiny_families import build

from aegis_core.cancel import CancelToken
from aegis_core.failures import UserError
from aegis_core.gguf_export.agreement import check_tokens
from aegis_core.gguf_export.checks import Check
from aegis_core.gguf_export.gguf_file import GgufFile
from aegis_core.gguf_export.llama import LlamaServer
from aegis_core.gguf_export.metadata import Metadata
from aegis_core.gguf_export.model_folder import ModelFolder
from aegis_core.gguf_export.recipe import RECIPES
from aegis_core.gguf_export.vocabulary import read_vocabulary
from aegis_core.gguf_export.writer import Source, write_gguf
from aegis_core.models.loading import load_tokenizer

TEXTS = [
    "The entropy of an isolated system never decreases; time has a direction.",
    "時間はなぜ不可逆なのですか？エントロピーが増えるからです。",
    "def f(x): return x ** 2 and 1234 + 5678 = 6912 don't we'll",
]
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
# How the tokenizer.json of a family treats blanks.
GEMMA = {"normalizer": REPLACE, "pre_tokenizer": None}
MISTRAL = {"normalizer": None, "pre_tokenizer": METASPACE}
LLAMA = {
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, REPLACE]},
    "pre_tokenizer": None,
}
N_ROWS = 512


def spm_folder(folder: Path, family: str, blanks: dict[str, Any]) -> Path:
    """A tiny model with a SentencePiece tokenizer trained on three sentences, as tokenizer.model and tokenizer.json."""
    build(family, folder, vocab_size=N_ROWS)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20),
        model_writer=model,
        vocab_size=460,
        hard_vocab_limit=False,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=["<turn>", "\n\n"],
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    added = {"<unk>": True, "<s>": True, "</s>": True, "<turn>": True, "\n\n": False}
    tree = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": pieces.piece_to_id(text), "content": text, "special": special}
            | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            for text, special in added.items()
        ],
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {pieces.id_to_piece(row): row for row in range(len(pieces))},
            "merges": merges_of(pieces),
        },
        **blanks,
    }
    (folder / "tokenizer.json").write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")
    config = {"tokenizer_class": "TokenizersBackend", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def merges_of(pieces: sentencepiece.SentencePieceProcessor) -> list[list[str]]:
    """Every way to put a piece together from two, the best pieces first."""
    rows = {pieces.id_to_piece(row): row for row in range(len(pieces))}
    found = [
        (-pieces.get_score(row), rows[text[:cut]], rows[text[cut:]], [text[:cut], text[cut:]])
        for text, row in rows.items()
        if not pieces.is_byte(row) and not pieces.is_control(row)
        for cut in range(1, len(text))
        if text[:cut] in rows and text[cut:] in rows
    ]
    return [pair for *_, pair in sorted(found)]


def written(folder: Path, file: Path) -> GgufFile:
    source = Source(ModelFolder(folder), read_vocabulary(folder, N_ROWS), Metadata("tiny", "mit", None))
    write_gguf(file, source, RECIPES["f16"], CancelToken(), lambda done, total: None)
    return GgufFile(file)


def tokens_of(folder: Path, file: Path) -> Check:
    with LlamaServer(file, n_ctx=256) as server:
        return check_tokens(server, load_tokenizer(folder))


@pytest.mark.parametrize(
    ("family", "blanks", "space"),
    [("gemma3_text", GEMMA, False), ("mistral", MISTRAL, False), ("llama", LLAMA, None)],
)
def test_llama_cpp_cuts_as_the_tokenizer_does(tmp_path: Path, family: str, blanks: dict, space: bool | None) -> None:
    folder = spm_folder(tmp_path / "folder", family, blanks)
    file = written(folder, tmp_path / "m.gguf")
    assert file.value("tokenizer.ggml.model") == "llama"
    assert file.value("tokenizer.ggml.add_space_prefix") is space
    assert file.value("tokenizer.ggml.add_bos_token") is True
    check = tokens_of(folder, file.path)
    assert check.passed, check


def test_another_rule_for_blanks_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = spm_folder(tmp_path / "folder", "llama", LLAMA)
    monkeypatch.setattr("aegis_core.gguf_export.vocabulary.prefixes_space", lambda definition: False)
    assert not tokens_of(folder, written(folder, tmp_path / "m.gguf").path).passed


def test_kinds_and_scores_are_those_of_the_pieces(tmp_path: Path) -> None:
    rows = read_vocabulary(spm_folder(tmp_path / "folder", "llama", LLAMA), N_ROWS).rows
    kinds = dict(zip(rows.texts, rows.types, strict=True))
    assert kinds["<s>"] == kinds["<turn>"] == TokenType.CONTROL
    assert kinds["\n\n"] == TokenType.USER_DEFINED and kinds["<0x41>"] == TokenType.BYTE
    assert kinds["▁t"] == TokenType.NORMAL and kinds["[PAD511]"] == TokenType.UNUSED
    normal = [score for score, kind in zip(rows.scores, rows.types, strict=True) if kind == TokenType.NORMAL]
    assert normal == sorted(normal, reverse=True)


def test_without_its_file_such_a_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = spm_folder(tmp_path / "folder", "llama", LLAMA)
    (folder / "tokenizer.model").unlink()
    with pytest.raises(UserError, match=r"cannot be written as GGUF yet: BPE .* without tokenizer\.model"):
        read_vocabulary(folder, N_ROWS)


def test_a_tokenizer_model_alone_is_refused_with_the_package_it_needs(tmp_path, monkeypatch):
    folder = spm_folder(tmp_path / "モデル", "llama", LLAMA)
    (folder / "tokenizer.json").unlink()
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    monkeypatch.setattr("aegis_core.models.loading.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"tokenizer\.model only, which cannot be read without the package protobuf"):
        read_vocabulary(folder, N_ROWS)
