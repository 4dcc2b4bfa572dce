"""What goes into a fused model, checked to belong together, and the record of it that travels with the model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..evaluation.reference import made_of
from ..failures import UserError
from ..models.identity import BaseModel, read_base
from ..plan import Plan
from ..run_directory import RunDirectory, read_json, sha256_of_file, sha256_of_json
from ..soul.gate import Soul, load_soul

RECORD = "aegis.json"
DEQUANTISED = "dequantised_4bit"


@dataclass(frozen=True)
class Ingredients:
    """The base model, the adapter's folder and the trained gate, the hashes of the latter two, and whose they are.

    Where `four_bits_in` names the dtype that a training in 4 bits computed in, they are fused into the base's weights
    after their way through 4 bits, instead of the original ones.
    """

    base: BaseModel
    adapter: Path
    soul: Soul
    adapter_sha256: str
    soul_sha256: str
    run: str
    four_bits_in: str | None = None

    @property
    def dequantised(self) -> bool:
        return self.four_bits_in is not None

    @property
    def origin(self) -> dict[str, Any]:
        """Where a fused model comes from; equal origins give equal models. A local base is named without its path."""
        source = Path(self.base.source)
        return {
            "made_by": f"AEGIS {__version__}",
            "base_model": source.name if source.is_absolute() else self.base.source,
            "base_revision": self.base.revision,
            "base_sha256": self.base.sha256,
            "adapter_sha256": self.adapter_sha256,
            "soul_sha256": self.soul_sha256,
            "alpha": self.soul.alpha,
            "gate": self.soul.openness,
            "calibrate": self.soul.calibrate,
            "norm_factor": self.soul.norm_factor(),
        } | ({"merge_base": f"{DEQUANTISED}, {self.four_bits_in}"} if self.dequantised else {})


def gather(run: RunDirectory, merge_base: str | None = None) -> Ingredients:
    """What the finished steps prepare and train left, to be fused into the plan's fuse.base or else `merge_base`.

    UserError if something is missing or damaged, if it was trained on another base model than the one prepared, or if
    it is to be fused into 4-bit weights that training never used.
    """
    dequantised = (merge_base or run.plan().fuse.base) == DEQUANTISED
    base, trained = read_base(run), run.step_folder("train")
    soul = load_soul(trained / "soul.safetensors")
    if soul.base_sha256 != base.sha256:
        raise UserError(
            "The gate was trained on another base model ({trained}) than the one prepared now ({prepared}).",
            "Run the training step again.",
            trained=f"{soul.base_model} {soul.base_sha256[:12]}",
            prepared=f"{base.source} {base.sha256[:12]}",
        )
    adapter = trained / "adapter"
    files = [adapter / name for name in ("adapter_config.json", "adapter_model.safetensors")]
    for file in files:
        if not file.is_file():
            raise UserError("The adapter is missing: {path}.", "Run the training step again.", path=file)
    in_four_bits = trained / "measured" / "gated_nf4.safetensors"
    if dequantised and not in_four_bits.is_file():
        raise UserError(
            "fuse.base is dequantised_4bit, but this training did not keep the base model in 4 bits.",
            "Set fuse.base to original.",
        )
    return Ingredients(
        base,
        adapter,
        soul,
        sha256_of_json([sha256_of_file(file) for file in files]),
        sha256_of_file(trained / "soul.safetensors"),
        run.identity(),
        trained_in(in_four_bits) if dequantised else None,
    )


def trained_in(measured: Path) -> str:
    """The dtype that the training in 4 bits measured here computed in; what it is on most GPUs where it was not yet
    written down."""
    return made_of(measured).get("trained_in", "bfloat16")


def fused_folder(plan: Plan, run: RunDirectory) -> Path:
    """Where the fused model lies, or will."""
    chosen = plan.fuse.directory
    return Path(chosen).expanduser().absolute() if chosen else run.step_folder("fuse") / "model"


def finished_files(folder: Path, ingredients: Ingredients) -> dict[str, str] | None:
    """File name -> SHA-256 of a complete fused model this run made from these ingredients, or None if there is none.

    The sizes are compared with the disk here, the hashes by whoever needs them.
    """
    record = read_record(folder)
    origin = {"merge_base": None} | ingredients.origin
    same = {name: record.get(name) for name in origin} == origin
    if not same or record.get("run") != ingredients.run or not record.get("files"):
        return None
    files: dict[str, dict[str, Any]] = record["files"]
    for name, facts in files.items():
        if not (folder / name).is_file() or (folder / name).stat().st_size != facts["bytes"]:
            return None
    return {name: facts["sha256"] for name, facts in files.items()}


def read_record(folder: Path) -> dict[str, Any]:
    """aegis.json of a folder; empty where there is none or it is no JSON object."""
    try:
        record = read_json(folder / RECORD)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
