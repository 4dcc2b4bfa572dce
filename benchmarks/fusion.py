"""From adapter to Q4_K_M at Phi-3.5-mini's real size, against peft and llama.cpp: time and anonymous peak memory.

    python benchmarks/fusion.py [--config FOLDER] [--scratch FOLDER] [--only merge convert quantise all]
                                [--converter convert_hf_to_gguf.py] [--llama-quantize PROGRAM]
                                [--layers 32] [--rounds 1]

Makes a model of that shape with random bf16 weights (7.6 GB) and a random LoRA of rank 16 under --scratch, which needs
40 GB, and removes them at the end. Configuration and tokenizer come from --config, or else from the model's hub
repository. peft is always compared; llama.cpp's converter and quantiser where their paths are given. Every measurement
is a process of its own, both sides in turn; the disk's cache is warm for both. AEGIS' merge includes the hash of the
base that it refuses to do without; checking the finished files is left out on both sides. Prints a Markdown table.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
MODEL = "microsoft/Phi-3.5-mini-instruct"
CONFIGURATION = ("*.json", "*.jinja", "tokenizer.model")
RANK, ALPHA = 16, 1.618034
PARTS = ("merge", "convert", "quantise", "all")


@dataclass(frozen=True)
class Measured:
    seconds: float
    peak_bytes: int


def main() -> None:
    options = _options()
    if options.work:
        WORK[options.work](options.folder)
        return
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="aegis-benchmark-") as scratch:
        folder = Path(scratch)
        _run([*_ourselves("make", folder), "--layers", str(options.layers), "--config", str(options.config or "")])
        n_bytes = sum(file.stat().st_size for file in (folder / "base").glob("*.safetensors"))
        print(f"Phi-3.5-mini's shape, {options.layers} layers, {n_bytes / 1e9:.2f} GB in bf16; {os.cpu_count()} cores")
        print()
        print("| work | theirs | s | GB | AEGIS s | GB | time ratio |")
        print("|---|---|---:|---:|---:|---:|---:|")
        for part in options.only:
            _compare(part, folder, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, help="folder with Phi-3.5's config.json and tokenizer files")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--converter", type=Path, help="llama.cpp's convert_hf_to_gguf.py")
    parser.add_argument("--llama-quantize", type=Path, help="llama.cpp's llama-quantize")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--work", choices=tuple(WORK), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _compare(part: str, folder: Path, options: argparse.Namespace) -> None:
    """One line of the table. What a part needs from an earlier one is made first where it is missing."""
    convert = [sys.executable, str(options.converter), str(folder / "peft"), "--outtype", "f16", "--outfile"]
    quantise = [str(options.llama_quantize), str(folder / "theirs-F16.gguf"), str(folder / "theirs-Q4_K_M.gguf")]
    merged = ("peft merge_and_unload, save_pretrained", [_ourselves("peft", folder)])
    converted = ("convert_hf_to_gguf.py", [[*convert, str(folder / "theirs-F16.gguf")]] if options.converter else [])
    quantised = ("llama-quantize", [[*quantise, "Q4_K_M"]] if options.llama_quantize else [])
    theirs = {"merge": merged, "convert": converted, "quantise": quantised, "all": ("the three in turn", [])}
    if options.converter and options.llama_quantize:
        theirs["all"] = ("the three in turn", [*merged[1], *converted[1], *quantised[1]])
    ours = {"merge": ["fuse"], "convert": ["f16"], "quantise": ["q4_k_m"], "all": ["fuse", "q4_k_m"]}
    if part in ("convert", "quantise") and not (folder / "fused").is_dir():
        _run(_ourselves("fuse", folder))
    if part == "convert" and converted[1] and not (folder / "peft").is_dir():
        _run(_ourselves("peft", folder))
    if part == "quantise" and quantised[1] and not (folder / "theirs-F16.gguf").is_file():
        for command in [*([] if (folder / "peft").is_dir() else merged[1]), *converted[1]]:
            _run(command)
    rows: dict[bool, list[Measured]] = {True: [], False: []}
    for number in range(options.rounds):
        for own in (True, False) if number % 2 else (False, True):
            commands = [_ourselves(work, folder) for work in ours[part]] if own else theirs[part][1]
            if commands:
                rows[own].append(_measured(commands))
    print(_line(LABELS[part], theirs[part][0], rows[False], rows[True]), flush=True)


LABELS = {
    "merge": "merge LoRA, gate and rotation, and save",
    "convert": "folder to GGUF F16",
    "quantise": "to Q4_K_M (theirs from the F16 file, ours from the folder)",
    "all": "adapter to Q4_K_M in all",
}


def _line(label: str, name: str, theirs: list[Measured], ours: list[Measured]) -> str:
    def cells(rows: list[Measured]) -> list[str]:
        if not rows:
            return ["", ""]
        seconds = statistics.median(row.seconds for row in rows)
        return [f"{seconds:.1f}", f"{max(row.peak_bytes for row in rows) / 1e9:.2f}"]

    ratio = "" if not theirs else f"{_median(ours) / _median(theirs):.2f}"
    return f"| {label} | {name} | {' | '.join([*cells(theirs), *cells(ours), ratio])} |"


def _median(rows: list[Measured]) -> float:
    return statistics.median(row.seconds for row in rows)


def _ourselves(work: str, folder: Path) -> list[str]:
    return [sys.executable, __file__, "--work", work, "--folder", str(folder)]


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _measured(commands: list[list[str]]) -> Measured:
    """The commands one after the other; the peak is the highest of any."""
    seconds, peak = 0.0, 0
    for command in commands:
        began = time.perf_counter()
        process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            peak = max(peak, _anonymous(process))
            time.sleep(0.02)
        seconds += time.perf_counter() - began
        if process.returncode:
            raise SystemExit(f"failed with {process.returncode}: {' '.join(command)}")
    return Measured(seconds, peak)


def _anonymous(process: psutil.Process) -> int:
    """Memory that no file stands behind, of the process and its children; pages of mapped files cost nobody else."""
    total = 0
    for one in (process, *_children(process)):
        try:
            memory = one.memory_info()
        except psutil.NoSuchProcess:
            continue
        total += memory.private if sys.platform == "win32" else memory.rss - getattr(memory, "shared", 0)
    return total


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _make(folder: Path) -> None:
    """Base and adapter with random weights."""
    import torch
    from huggingface_hub import snapshot_download
    from peft import LoraConfig
    from safetensors.torch import save_file
    from transformers import AutoConfig, Phi3ForCausalLM

    from aegis_core.cancel import CancelToken
    from aegis_core.models.weights import weights_sha256

    options = _options()
    base, adapter = folder / "base", folder / "adapter"
    base.mkdir()
    given = options.config
    source = Path(given) if given != Path() else Path(snapshot_download(MODEL, allow_patterns=list(CONFIGURATION)))
    for pattern in CONFIGURATION:
        for file in source.glob(pattern):
            shutil.copyfile(file, base / file.name)
    tree = json.loads((base / "config.json").read_text(encoding="utf-8")) | {"num_hidden_layers": options.layers}
    tree.pop("auto_map", None)
    (base / "config.json").chmod(0o644)
    (base / "config.json").write_text(json.dumps(tree, indent=2), encoding="utf-8")
    with torch.device("meta"):
        skeleton = Phi3ForCausalLM(AutoConfig.from_pretrained(base))
    draw = torch.Generator().manual_seed(0)

    def values(name: str, shape: torch.Size) -> torch.Tensor:
        wide = torch.empty(shape, dtype=torch.float32)
        return (wide.fill_(1.0) if "norm" in name else wide.normal_(0, 0.02, generator=draw)).to(torch.bfloat16)

    shapes = {name: tensor.shape for name, tensor in skeleton.state_dict().items()}
    names, places, total = list(shapes), {}, 0
    halves = (names[: len(names) // 2], names[len(names) // 2 :])
    for number, half in enumerate(halves, 1):
        file = f"model-{number:05d}-of-{len(halves):05d}.safetensors"
        tensors = {name: values(name, shapes[name]) for name in half}
        save_file(tensors, base / file, metadata={"format": "pt"})
        places |= dict.fromkeys(tensors, file)
        total += sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (base / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "base.sha256").write_text(weights_sha256(base, CancelToken()), encoding="utf-8")
    targets = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
    LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=targets, task_type="CAUSAL_LM").save_pretrained(str(adapter))
    updates = {}
    for name, (rows, columns) in ((n, s) for n, s in shapes.items() if n.split(".")[-2] in targets):
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        updates[f"{stem}.lora_A.weight"] = torch.empty(RANK, columns).normal_(0, 0.02, generator=draw)
        updates[f"{stem}.lora_B.weight"] = torch.empty(rows, RANK).normal_(0, 0.02, generator=draw)
    save_file(updates, adapter / "adapter_model.safetensors", metadata={"format": "pt"})


def _peft(folder: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    shutil.rmtree(folder / "peft", ignore_errors=True)
    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.bfloat16, local_files_only=True)
    merged: Any = PeftModel.from_pretrained(base, str(folder / "adapter")).merge_and_unload()
    merged.save_pretrained(str(folder / "peft"))
    AutoTokenizer.from_pretrained(folder / "base", local_files_only=True).save_pretrained(str(folder / "peft"))
    shutil.copyfile(folder / "base" / "tokenizer.model", folder / "peft" / "tokenizer.model")


def _soul() -> Any:
    import torch

    from aegis_core.soul.gate import Soul

    generator = torch.empty(3072 // 8, 28).normal_(0, 0.05, generator=torch.Generator().manual_seed(1))
    return Soul(ALPHA, generator, True, "benchmark", "local", "")


def _fuse(folder: Path) -> None:
    from aegis_core.cancel import CancelToken
    from aegis_core.fusion.ingredients import Ingredients
    from aegis_core.fusion.merge import merge
    from aegis_core.models.identity import BaseModel

    shutil.rmtree(folder / "fused", ignore_errors=True)
    sha256 = (folder / "base.sha256").read_text(encoding="utf-8")
    base = BaseModel("benchmark", "local", str(folder / "base"), sha256, "", "Phi3ForCausalLM", 0, 3072, 32064, False)
    merge(Ingredients(base, folder / "adapter", _soul(), "", "", "benchmark"), folder / "fused", CancelToken())


def _gguf(kind: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        from aegis_core.cancel import CancelToken
        from aegis_core.gguf_export.metadata import Metadata
        from aegis_core.gguf_export.model_folder import ModelFolder
        from aegis_core.gguf_export.recipe import RECIPES
        from aegis_core.gguf_export.vocabulary import read_vocabulary
        from aegis_core.gguf_export.writer import Source, write_gguf

        fused = ModelFolder(folder / "fused")
        vocabulary = read_vocabulary(fused.path, fused.config.vocab_size)
        source = Source(fused, vocabulary, Metadata("benchmark", "mit", _soul(), ""))
        recipe = RECIPES[kind]
        target = folder / f"ours-{recipe.label}.gguf"
        target.unlink(missing_ok=True)
        write_gguf(target, source, recipe, CancelToken(), lambda done, total: None)

    return write


WORK: dict[str, Callable[[Path], None]] = {
    "make": _make,
    "peft": _peft,
    "fuse": _fuse,
    "f16": _gguf("f16"),
    "q4_k_m": _gguf("q4_k_m"),
}

if __name__ == "__main__":
    main()
