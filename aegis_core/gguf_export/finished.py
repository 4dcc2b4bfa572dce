"""Files under their final names: which are there already, which are somebody else's, what is kept about each."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..context import StepContext
from ..evaluation.measurement import Measurement
from ..failures import UserError
from ..run_directory import sha256_of_file, sha256_of_json, write_json
from ..sealed import read_sealed, sealed
from .draft import Source
from .gguf_file import GgufFile
from .metadata import RUN_KEY


@dataclass(frozen=True)
class Finished:
    """A verified file under its final name; `row` is its entry in files.json."""

    row: dict[str, Any]
    measured: Measurement


class Records:
    """What an export step remembers of each finished file, so that a kill loses at most the unfinished ones."""

    def __init__(self, ctx: StepContext, source: Source) -> None:
        self._ctx = ctx
        self._content = _content(ctx, source)

    def find(self, kind: str, path: Path) -> dict[str, Any] | None:
        """The row of a file that an earlier attempt finished from the same content, its bytes still the same."""
        marker = self._marker(kind)
        if not (marker.is_file() and path.is_file()):
            return None
        record = read_sealed(marker)
        if record["content"] != self._content or record["path"] != str(path):
            return None
        row: dict[str, Any] = record["row"]
        return row if sha256_of_file(path) == row["sha256"] else None

    def keep(self, kind: str, path: Path, row: dict[str, Any]) -> None:
        write_json(self._marker(kind), sealed({"content": self._content, "path": str(path), "row": row}))

    def _marker(self, kind: str) -> Path:
        return self._ctx.folder / f"finished-{kind}.json"


def file_name(model_name: str, label: str) -> str:
    """The model's name with everything a file system may not like replaced, and the type."""
    return f"{re.sub(r'[^A-Za-z0-9._-]', '-', model_name)}-{label}.gguf"


def refuse_foreign(ctx: StepContext, path: Path) -> None:
    """UserError if another run, or somebody else, has a file of this name in the chosen folder."""
    if path.parent == ctx.folder or not path.exists():
        return
    try:
        ours = GgufFile(path).value(RUN_KEY) == ctx.run.identity()
    except UserError:  # no sound GGUF file, so none that this step gave a name
        ours = False
    if not ours:
        raise UserError(
            "{path} is there already and was not made by this run.",
            "Choose another folder or model name; delete that file first if nobody needs it.",
            path=path,
        )


def _content(ctx: StepContext, source: Source) -> str:
    """Fingerprint of what the files are made from: the fused weights and the header's own words."""
    done = ctx.run.done("fuse")
    weights = {path.name: path.stat().st_size for path in sorted(source.folder.path.glob("*.safetensors"))}
    meta = source.metadata
    soul = [meta.soul.alpha, meta.soul.base_sha256] if meta.soul else []
    header = [meta.name, meta.license, soul, list(source.vocabulary.tokens)]
    return sha256_of_json([done.digest if done else "", weights, header])
