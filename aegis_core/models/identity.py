"""Which base model exactly: its source, commit, files and hash. Light: no torch."""

from dataclasses import asdict, dataclass
from pathlib import Path

from ..run_directory import RunDirectory, read_json, write_json


@dataclass(frozen=True)
class BaseModel:
    """`folder` holds config.json, tokenizer files and safetensors; `sha256` covers every weight file's hash."""

    source: str
    revision: str
    folder: str
    sha256: str
    license: str
    architecture: str
    n_parameters: int
    hidden_size: int
    vocabulary_size: int
    tied_embeddings: bool

    @property
    def path(self) -> Path:
        return Path(self.folder)


def write_base(run: RunDirectory, base: BaseModel) -> Path:
    """Leave prepare/base.json for the later steps."""
    path = run.step_folder("prepare") / "base.json"
    write_json(path, asdict(base))
    return path


def read_base(run: RunDirectory) -> BaseModel:
    return BaseModel(**read_json(run.step_folder("prepare") / "base.json"))
