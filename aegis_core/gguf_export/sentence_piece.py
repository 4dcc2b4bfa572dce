"""A SentencePiece vocabulary: pieces and scores from tokenizer.model, added tokens from the tokenizer itself.

Types, scores and spellings are those that llama.cpp's own converter writes.
"""

from pathlib import Path
from typing import Any

import gguf
from sentencepiece import SentencePieceProcessor

from ..failures import UserError
from .token_rows import ADDED_SCORE, Token, TokenRows, token_rows

BLANK = "▁"
# Added tokens that some models do not mark as special though they are.
_ALWAYS_CONTROL = frozenset({"<pad>", "<mask>", "<2mass>", "[@BOS@]"})
_CONTROL_FORMS = (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">"))


def read_sentence_piece(file: Path, definition: dict[str, Any], n_rows: int) -> TokenRows:
    """One row per row of the embedding; `definition` is the tokenizer in the form of a tokenizer.json.

    UserError if the file is none, holds other pieces than the tokenizer, or there are more tokens than rows.
    """
    pieces = _pieces(file)
    expected: dict[str, int] = definition["model"].get("vocab", {})
    added = {token["id"]: token for token in definition["added_tokens"]}
    for piece in pieces:
        if piece.row not in added and expected.get(piece.text) != piece.row:
            raise UserError(
                "{file} and tokenizer.json differ: {text} is number {row} in the former only.",
                "The folder is mixed up; download the model again.",
                file=file,
                text=piece.text,
                row=piece.row,
            )
    return token_rows([*pieces, *(_added(token) for token in added.values())], n_rows)


def prefixes_space(definition: dict[str, Any]) -> bool:
    """Whether a blank is put before every piece of text between control tokens, as llama.cpp can do.

    Its other choice is no blank at all. See `prefixes_first_text` for tokenizers that do neither.
    """
    return _prefix(definition) == "always"


def prefixes_first_text(definition: dict[str, Any]) -> bool:
    """Whether only a text at the very beginning gets a blank: behind a control token, as in every chat, none does."""
    return _prefix(definition) == "first"


def _prefix(definition: dict[str, Any]) -> str:
    if any(part["type"] == "Prepend" for part in _flattened(definition.get("normalizer"), "normalizers")):
        return "always"
    for part in _flattened(definition.get("pre_tokenizer"), "pretokenizers"):
        if part["type"] == "Metaspace":
            return str(part.get("prepend_scheme", "always"))
    return "never"


def _pieces(file: Path) -> list[Token]:
    try:
        processor = SentencePieceProcessor(model_proto=file.read_bytes())
        return [
            Token(processor.id_to_piece(row), row, _kind(processor, row), processor.get_score(row))
            for row in range(processor.get_piece_size())
        ]
    except (RuntimeError, UnicodeDecodeError) as error:
        raise UserError(
            "{file} is not readable as a SentencePiece vocabulary.", "Download the model again.", file=file
        ) from error


def _kind(processor: SentencePieceProcessor, row: int) -> gguf.TokenType:
    if processor.is_unknown(row):
        return gguf.TokenType.UNKNOWN
    if processor.is_control(row):
        return gguf.TokenType.CONTROL
    if processor.is_unused(row):
        return gguf.TokenType.UNUSED
    return gguf.TokenType.BYTE if processor.is_byte(row) else gguf.TokenType.NORMAL


def _added(token: dict[str, Any]) -> Token:
    text: str = token["content"]
    if token["special"] or _looks_like_control(text):
        return Token(text, token["id"], gguf.TokenType.CONTROL, ADDED_SCORE)
    return Token(text.replace(BLANK, " "), token["id"], gguf.TokenType.USER_DEFINED, ADDED_SCORE)


def _looks_like_control(text: str) -> bool:
    return text in _ALWAYS_CONTROL or any(text.startswith(a) and text.endswith(z) for a, z in _CONTROL_FORMS)


def _flattened(node: dict[str, Any] | None, children: str) -> list[dict[str, Any]]:
    if node is None:
        return []
    if node["type"] == "Sequence":
        return [part for child in node[children] for part in _flattened(child, children)]
    return [node]
