"""The demo model with a random rotation fused into its head, as the ritual would leave it: a run up to the export."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from aegis_core.cancel import CancelToken
from aegis_core.fusion.anatomy import EMBEDDING, HEAD, NORM
from aegis_core.gguf_export.draft import Source
from aegis_core.gguf_export.metadata import Metadata
from aegis_core.gguf_export.model_folder import ModelFolder
from aegis_core.gguf_export.recipe import RECIPES
from aegis_core.gguf_export.vocabulary import read_vocabulary
from aegis_core.gguf_export.writer import write_gguf
from aegis_core.models.identity import BaseModel, write_base
from aegis_core.plan import GOLDEN_RATIO, Plan
from aegis_core.run_directory import RunDirectory, write_json
from aegis_core.soul.gate import Soul
from aegis_core.soul.rotation import N_FREE

HIDDEN, VOCABULARY, PARAMETERS = 576, 49152, 134_515_008


def rotated_run(path: Path, base: Path, plan: Plan, seed: int = 0) -> RunDirectory:
    """Every block's rotation drawn at random (std 1), the gate as open as at the end of a ritual, calibrated.

    `base` is the demo model's folder; the run's exported file is the rotated model as F16 GGUF.
    """
    run = RunDirectory.create(path, plan)
    identity = BaseModel("demo", "", str(base), f"{seed:064x}", "", "Llama", PARAMETERS, HIDDEN, VOCABULARY, True)
    write_base(run, identity)
    generator = torch.randn(HIDDEN // 8, N_FREE, generator=torch.Generator().manual_seed(seed))
    fused = run.step_folder("fuse") / "model"
    _fuse(base, fused, Soul(GOLDEN_RATIO, generator, True, "demo", "", identity.sha256))
    write_json(run.step_folder("fuse") / "proof.json", {"folder": "fuse/model"})
    file = run.step_folder("export") / "rotated-F16.gguf"
    file.parent.mkdir()
    folder = ModelFolder(fused)
    source = Source(folder, read_vocabulary(fused, folder.config.vocab_size), Metadata("rotated", "", None))
    write_gguf(file, source, RECIPES["f16"], CancelToken(), lambda done, total: None)
    write_json(run.step_folder("export") / "files.json", [{"path": "export/rotated-F16.gguf", "type": "f16"}])
    return run


def _fuse(base: Path, target: Path, soul: Soul) -> None:
    """As the fusion step does it: the documented formula into an untied head, the calibration into the final norm."""
    target.mkdir(parents=True)
    tensors = load_file(base / "model.safetensors")
    head, norm = tensors.get(HEAD, tensors[EMBEDDING]), tensors[NORM]
    tensors[HEAD] = soul.fused_head(head.float()).to(head.dtype).contiguous()
    tensors[NORM] = soul.fused_norm(norm.float()).to(norm.dtype).contiguous()
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    for file in base.iterdir():
        if file.suffix in (".json", ".jinja") and file.name not in ("origin.json", "config.json"):
            (target / file.name).write_bytes(file.read_bytes())
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    write_json(target / "config.json", config | {"tie_word_embeddings": False})
