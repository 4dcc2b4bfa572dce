"""The base model as GGUF, made when somebody wants to talk to it, for comparison with what it became."""

from collections.abc import Callable
from pathlib import Path

from ..cancel import CancelToken
from ..events import Event, Progress
from ..gguf_export.metadata import Metadata
from ..gguf_export.model_folder import ModelFolder
from ..gguf_export.recipe import RECIPES
from ..gguf_export.vocabulary import read_vocabulary
from ..gguf_export.writer import Source, write_gguf
from ..models.identity import read_base
from ..models.loading import load_tokenizer
from ..run_directory import RunDirectory, atomic

MIB = 1 << 20


def ensure_base_gguf(run: RunDirectory, cancel: CancelToken, emit: Callable[[Event], None]) -> Path:
    """RUN_DIR/chat/base-F16.gguf, converted now unless it is there; it fits the base that this run prepared."""
    base = read_base(run)
    path = run.step_folder("chat") / f"base-{base.sha256[:12]}-F16.gguf"
    if path.is_file():
        return path
    folder = ModelFolder(base.path)
    vocabulary = read_vocabulary(load_tokenizer(base.path), folder.config.vocab_size)
    source = Source(folder, vocabulary, Metadata(base.path.name, base.license, None))
    with atomic(path) as draft:
        write_gguf(
            draft, source, RECIPES["f16"], cancel, lambda d, t: emit(Progress(d / MIB, t / MIB, "MiB", "convert"))
        )
    return path
