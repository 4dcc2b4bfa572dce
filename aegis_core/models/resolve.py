"""From a plan's model source to a folder on this machine whose every weight is known by hash."""

import errno
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from ..context import StepContext
from ..events import Progress, note
from ..failures import UserError
from ..plan import DEMO, ModelPlan
from . import demo
from .identity import BaseModel
from .weights import stored_tensors, weight_files, weights_sha256

SMALL_FILES = ("*.json", "*.jinja", "tokenizer.model", "LICENSE*", "README.md")
WEIGHTS = ("model*.safetensors",)


def resolve(plan: ModelPlan, ctx: StepContext, require_usable: Callable[[Path], None]) -> BaseModel:
    """Fetch what is missing and describe the base model; UserError with one sentence if it cannot be used.

    `require_usable` is given a folder with configuration and tokenizer, before any large file is fetched or read.
    """
    if plan.source == DEMO:
        folder = demo.ensure_demo(ctx.cancel, lambda what: ctx.emit(note(_DEMO_NOTES[what])))
        require_usable(folder)
        return describe(plan.source, demo.PACKAGE, folder, demo.LICENSE, ctx)
    local = Path(plan.source).expanduser()
    if local.is_dir():
        read_config(local)
        require_usable(local)
        return describe(str(local.resolve()), "local", local.resolve(), _license_in(local), ctx)
    if local.is_absolute() or plan.source.startswith((".", "~")) or plan.source.count("/") != 1:
        raise UserError(
            "There is no model folder {folder}.",
            "Choose an existing folder, a hub id such as owner/name, or demo.",
            folder=plan.source,
        )
    ctx.emit(
        note("Fetching {model} from the hub; files that are already here are not fetched again.", model=plan.source)
    )
    require_usable(_download(plan, SMALL_FILES))
    ctx.cancel.check()
    folder = _download(plan, (*SMALL_FILES, *WEIGHTS))
    return describe(plan.source, folder.name, folder, _license_in(folder), ctx)


_DEMO_NOTES = {
    "fetch": "Fetching the demo model, 93 MB, once.",
    "convert": "Converting the demo model into plain weights, once.",
}


def describe(source: str, revision: str, folder: Path, license_name: str, ctx: StepContext) -> BaseModel:
    """Read config and tensor table of a local folder and hash its weights."""
    config = read_config(folder)
    shapes = {tensor.name: tensor.shape for tensor in stored_tensors(folder)}
    sha256 = weights_sha256(
        folder, ctx.cancel, _byte_progress(sum(f.stat().st_size for f in weight_files(folder)), ctx)
    )
    head = shapes.get("lm_head.weight") or shapes.get("model.embed_tokens.weight")
    if head is None:
        raise UserError(
            "The model in {folder} has no LM head and no token embedding of the known names.",
            "Choose a causal language model such as Phi-3, Llama, Mistral, Qwen or Gemma.",
            folder=folder,
        )
    return BaseModel(
        source=source,
        revision=revision,
        folder=str(folder),
        sha256=sha256,
        license=license_name,
        architecture=(config.get("architectures") or ["unknown"])[0],
        n_parameters=sum(math.prod(shape) for shape in shapes.values()),
        hidden_size=head[1],
        vocabulary_size=head[0],
        tied_embeddings="lm_head.weight" not in shapes,
    )


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder; UserError if it is missing or no JSON."""
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(
            "There is no model in {folder}: config.json is missing.",
            "Choose the folder that holds config.json and *.safetensors.",
            folder=folder,
        )
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise UserError(
            "{path} is damaged: {problem}.", "Download the model again.", path=path, problem=error
        ) from error
    return config


def _download(plan: ModelPlan, patterns: tuple[str, ...]) -> Path:
    try:
        return Path(snapshot_download(plan.source, revision=plan.revision, allow_patterns=list(patterns)))
    except GatedRepoError as error:
        raise UserError(
            "{model} is only for people who accepted its terms.",
            "Accept them on the model's page and log in with your token, then run this step again.",
            model=plan.source,
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError("The hub knows no model {model}.", "Check the spelling.", model=plan.source) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES):
            raise  # the disk's fault, not the hub's
        raise UserError(
            "{model} could not be fetched: the hub did not answer.",
            "Check the connection, or choose a local folder or the demo model.",
            model=plan.source,
        ) from error


def _byte_progress(total_bytes: int, ctx: StepContext) -> Callable[[int], None]:
    """A listener that adds up bytes and reports every 64 MiB."""
    n_read = 0

    def on_bytes(n_bytes: int) -> None:
        nonlocal n_read
        n_read += n_bytes
        if n_read % (1 << 26) < n_bytes or n_read == total_bytes:
            ctx.emit(Progress(n_read, total_bytes, "bytes", "hash"))

    return on_bytes


def _license_in(folder: Path) -> str:
    """The licence named in the model card's front matter, or unknown."""
    card = folder / "README.md"
    if card.is_file():
        for line in card.read_text(encoding="utf-8", errors="replace").splitlines()[:60]:
            if line.startswith("license:"):
                return line.removeprefix("license:").strip()
    return "unknown"
