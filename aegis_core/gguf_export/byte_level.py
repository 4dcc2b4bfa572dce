"""A byte-level BPE vocabulary, read from the definition that a tokenizer.json holds."""

from typing import Any

import gguf

from .token_rows import ADDED_SCORE, Token, TokenRows, token_rows

_SPACE_IN_MERGE = chr(ord(" ") + 256)  # merges are written space-separated, so a space inside one is moved away


def is_byte_level(definition: dict[str, Any]) -> bool:
    """Whether it is BPE over bytes that are written as letters, as GPT-2 began it."""
    return definition["model"]["type"] == "BPE" and _decodes_bytes(definition.get("decoder"))


def read_byte_level(definition: dict[str, Any], n_rows: int) -> TokenRows:
    """One row per row of the embedding; UserError if there are more tokens than rows."""
    tokens = [Token(text, row, gguf.TokenType.NORMAL) for text, row in definition["model"]["vocab"].items()]
    for added in definition["added_tokens"]:
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        tokens.append(Token(added["content"], added["id"], kind, ADDED_SCORE))
    return token_rows(tokens, n_rows)


def merges_of(definition: dict[str, Any]) -> tuple[str, ...]:
    """The merges, each as one text."""
    return tuple(_merge(pair) for pair in definition["model"]["merges"])


def _merge(pair: str | list[str]) -> str:
    if isinstance(pair, str):
        return pair
    return " ".join(part.replace(" ", _SPACE_IN_MERGE) for part in pair)


def _decodes_bytes(decoder: dict[str, Any] | None) -> bool:
    if decoder is None:
        return False
    return decoder["type"] == "ByteLevel" or any(_decodes_bytes(child) for child in decoder.get("decoders", []))
