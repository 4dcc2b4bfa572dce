"""Token sequences of one length: samples end to end and cut, or each in a sequence of its own."""

from array import array
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..failures import UserError
from .formatting import Tokens
from .packed import IGNORED, Packed


@dataclass
class Packer:
    """Takes samples one by one and gives sequences of `length` tokens.

    `joins`: all samples end to end, cut at every `length`; what is left at the end is dropped. Otherwise each sample
    begins a sequence, and the rest of its last one is `padding` with IGNORED labels: harmless without an attention
    mask, since a causal model never looks ahead. `splits`: samples longer than a sequence go on in the next one;
    otherwise they are left out. Sequences without any counted token are left out: they would give a loss of NaN.
    """

    length: int
    joins: bool = True
    splits: bool = True
    padding: int = 0
    n_over_long: int = 0
    n_padding: int = 0
    n_without_answer: int = 0
    n_left_over: int = 0
    _ids: "array[int]" = field(default_factory=lambda: array("i"), repr=False)
    _labels: "array[int]" = field(default_factory=lambda: array("i"), repr=False)

    def add(self, tokens: Tokens) -> None:
        if len(tokens.ids) > self.length:
            self.n_over_long += 1
            if not self.splits:
                return
        self._ids.extend(tokens.ids)
        self._labels.extend(tokens.labels)
        if not self.joins:
            missing = -len(tokens.ids) % self.length
            self.n_padding += missing
            self._ids.extend([self.padding] * missing)
            self._labels.extend([IGNORED] * missing)

    def packed(self) -> Packed:
        """Everything that was added, as (n, length) int32; UserError if that is no whole sequence with an answer."""
        n_tokens = len(self._ids)
        n_whole = n_tokens // self.length
        if not n_whole and self.n_over_long:
            raise UserError(
                "Every sample of the dataset is longer than one sequence of {length} tokens.",
                "Let long samples be split (data.over_long=split), or choose a longer sequence length.",
                changes={"data.over_long": "split"},
                length=self.length,
            )
        if not n_whole:
            raise UserError(
                "The dataset gives only {n} tokens, less than one sequence of {length}.",
                "Add samples, choose a shorter sequence length, or give each sample a sequence of its own "
                "(data.packing=false).",
                changes={"data.packing": False},
                n=n_tokens,
                length=self.length,
            )
        self.n_left_over = n_tokens - n_whole * self.length
        ids, labels = (self._rows(buffer, n_whole) for buffer in (self._ids, self._labels))
        counted = (labels[:, 1:] != IGNORED).any(dim=1)
        self.n_without_answer = int((~counted).sum())
        if not counted.any():
            raise UserError(
                "None of the dataset's sequences of {length} tokens holds a part of an answer to learn from.",
                "Choose a longer sequence length, or shorten the questions.",
                length=self.length,
            )
        return Packed(ids[counted], labels[counted])

    def _rows(self, buffer: "array[int]", n_whole: int) -> Tensor:
        return torch.frombuffer(buffer, dtype=torch.int32, count=n_whole * self.length).view(n_whole, self.length)
