"""Which base model exactly: its source, commit, files and hash. Light: no torch."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..run_directory import RunDirectory, read_json, write_json


@dataclass(frozen=True)
class BaseModel:
    """`folder` holds config.json, tokenizer files and safetensors; `sha256` covers every weight file's hash.

    `revision` is the resolved commit, "local" for a folder. `files` maps each weight file's name to its SHA-256,
    `companions` that of configuration, tokenizer, chat template and program code. `own_code` names the parts ("model",
    "tokenizer") that run the model's own program code, by the user's consent.
    """

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
    files: dict[str, str] = field(default_factory=dict)
    companions: dict[str, str] = field(default_factory=dict)
    own_code: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return Path(self.folder)


def write_base(run: RunDirectory, base: BaseModel) -> Path:
    """Leave prepare/base.json for the later steps."""
    path = run.step_folder("prepare") / "base.json"
    write_json(path, asdict(base))
    return path


def read_base(run: RunDirectory) -> BaseModel:
    """What `write_base` left, also by a version that wrote less."""
    row = read_json(run.step_folder("prepare") / "base.json")
    return BaseModel(**{**row, "own_code": tuple(row.get("own_code", ()))})
