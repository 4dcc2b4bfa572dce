"""A model in the stand-in for Ollama and the same as GGUF for llama.cpp, for comparing the two."""

from pathlib import Path

import gguf
import numpy as np
from fake_ollama import FakeOllama

from aegis_core.cancel import CancelToken
from aegis_core.chat.base_gguf import ensure_base_gguf
from aegis_core.chat.ollama import OllamaClient
from aegis_core.chat.ollama_model import MadeModel, ensure_model
from aegis_core.chat.prompt import ChatPrompts
from aegis_core.models.identity import BaseModel, write_base
from aegis_core.plan import ChatPlan, Plan
from aegis_core.run_directory import RunDirectory


def small_gguf(path: Path, add_bos: bool) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_add_bos_token(add_bos)
    writer.add_tensor("token_embd.weight", np.zeros((2, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def made_in(
    server: FakeOllama, prompts: ChatPrompts, folder: Path, heard: list[str] | None = None, system: str = ""
) -> MadeModel:
    """The model made as the app makes it; the server counts tokens as the file's own tokenizer would."""
    adds_bos = bool(prompts.format.bos)
    server.count = lambda text: len(prompts.encode((prompts.bos if adds_bos else "") + text))
    path = small_gguf(folder / "model.gguf", adds_bos)
    with OllamaClient() as client:
        return ensure_model(
            client,
            "aegis",
            path,
            prompts,
            ChatPlan(system=system),
            "mit",
            CancelToken(),
            lambda what, *_: heard.append(what) if heard is not None else None,
        )


class NativeOllama(FakeOllama):
    """Takes the Jinja of the model file, as newer versions do where that knows of tools or thoughts."""

    prompts: ChatPrompts
    spoilt = False

    def rendered(self, model: str, messages: list[dict[str, str]]) -> str:
        text = self.prompts.text(messages).removeprefix(self.prompts.bos)
        return text.replace("user", "User") if self.spoilt else text


def base_gguf(folder: Path, run_folder: Path) -> Path:
    """The model folder as GGUF."""
    run = RunDirectory.create(run_folder, Plan())
    write_base(run, BaseModel(str(folder), "", str(folder), "1" * 64, "mit", "Llama", 1, 64, 320, False))
    return ensure_base_gguf(run, CancelToken(), lambda event: None)
