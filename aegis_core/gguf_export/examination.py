"""Everything a draft must pass before it gets its name, and its held-out losses."""

from collections.abc import Callable

import psutil
import torch
from transformers import PreTrainedModel

from ..context import StepContext
from ..evaluation.chain import Chain, free_memory
from ..evaluation.measurement import Measurement
from ..evaluation.reading import Plain, plain
from ..events import Progress, note
from ..failures import UserError
from ..models.loading import load_tokenizer
from .agreement import Position, check_probabilities, check_tokens, positions
from .checks import Check
from .dequantised import dequantised_model, placement_of
from .gguf_file import GgufFile
from .llama import LlamaServer
from .model_folder import ModelFolder
from .recipe import Recipe
from .verify import check_file


class Examination:
    """The checks of files made from one model folder; each is told as it is made."""

    def __init__(self, ctx: StepContext, folder: ModelFolder, chain: Chain) -> None:
        self._ctx, self._folder, self._chain = ctx, folder, chain

    def examine(self, file: GgufFile, name: str, recipe: Recipe, sha256: str) -> tuple[list[Check], Measurement]:
        """All checks of a file and its losses; `sha256` is the writer's, `name` what the file is going to be called.

        UserError if it must not get that name.
        """
        label = recipe.label
        told = self._told
        checks = told(check_file(file, self._folder, recipe, self._ctx.cancel, self._bytes(label), sha256), label)
        measured, places = self._measured(file, label)
        self._ctx.emit(Progress(0, len(places), "positions", f"comparing {label} with llama.cpp"))
        n_threads = psutil.cpu_count(logical=False) or 1
        with LlamaServer(file.path, n_ctx=512, n_threads=n_threads) as server:
            checks += told([check_tokens(server, load_tokenizer(self._folder.path))], label)
            checks += told(check_probabilities(server, places, recipe, self._ctx.cancel), label)
        self._ctx.emit(Progress(len(places), len(places), "positions", f"comparing {label} with llama.cpp"))
        failed = [check for check in checks if check.blocking and not check.passed]
        if failed:
            raise UserError(
                "{file} failed its check: {name}: {measured}, expected {expected}.",
                "Nothing was kept under that name. Run the export step again; if it stays, report it with the run log.",
                file=name,
                name=failed[0].name,
                measured=failed[0].measured,
                expected=failed[0].expected,
            )
        return checks, measured

    def losses(self, file: GgufFile, label: str) -> Measurement:
        """Held-out losses of the file's own tensors in torch."""
        measured = self._read(file, label)[1]
        free_memory()
        return measured

    def _measured(self, file: GgufFile, label: str) -> tuple[Measurement, list[Position]]:
        model, measured = self._read(file, label)
        places = positions(Plain(model).logits, self._chain.held_out, self._ctx.cancel)
        del model
        free_memory()  # it is needed for llama.cpp next
        return measured, places

    def _read(self, file: GgufFile, label: str) -> tuple[PreTrainedModel, Measurement]:
        distance = self._chain.distance()
        place = placement_of(file)
        if place.kept != torch.float32:
            self._ctx.emit(
                note(
                    "{label} is measured with its matrices kept in {dtype}: there is no room for them in float32.",
                    label=label,
                    dtype=str(place.kept).removeprefix("torch."),
                )
            )
        model = dequantised_model(file, self._folder, self._ctx.cancel, place)
        readable = plain(model, self._chain.held_out.input_ids[0])
        return model, self._chain.measure(f"measuring {label}", readable, distance)

    def _told(self, checks: list[Check], label: str) -> list[Check]:
        for check in checks:
            self._ctx.emit(check.verdict(label))
        return checks

    def _bytes(self, label: str) -> Callable[[int, int], None]:
        return lambda done, total: self._ctx.emit(Progress(done, total, "bytes", f"checking {label}"))
