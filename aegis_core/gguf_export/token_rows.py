"""The tokens of a vocabulary as a table with one row per row of the embedding."""

from collections.abc import Iterable
from dataclasses import dataclass

import gguf

from ..failures import UserError

ADDED_SCORE = -1000.0
UNUSED_SCORE = -10000.0


@dataclass(frozen=True)
class Token:
    """One token: its text as GGUF has it, its number, its kind and, for SentencePiece, its score."""

    text: str
    row: int
    kind: gguf.TokenType
    score: float = 0.0


@dataclass(frozen=True)
class TokenRows:
    """Text, kind and score of every row of the embedding."""

    texts: tuple[str, ...]
    types: tuple[gguf.TokenType, ...]
    scores: tuple[float, ...]


def token_rows(tokens: Iterable[Token], n_rows: int) -> TokenRows:
    """The table of `n_rows` rows; a later token replaces an earlier one.

    Rows without a token get a name that can never be produced. UserError for a token beyond the last row.
    """
    rows = [Token(f"[PAD{row}]", row, gguf.TokenType.UNUSED, UNUSED_SCORE) for row in range(n_rows)]
    for token in tokens:
        if token.row >= n_rows:
            raise UserError(
                "The tokenizer has the token {text} with number {row}, but the model only {n_rows} rows.",
                "Tokenizer and model do not belong together; choose another base model.",
                text=token.text,
                row=token.row,
                n_rows=n_rows,
            )
        rows[token.row] = token
    return TokenRows(tuple(t.text for t in rows), tuple(t.kind for t in rows), tuple(t.score for t in rows))
