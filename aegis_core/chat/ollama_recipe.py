"""What a model in Ollama is made of beside its weights, as a request to the server and as a Modelfile for use by hand.

A Modelfile knows no escapes: a value in three quotation marks ends at the first line that ends in three of them, and
what Go does not call printable (a full-width space, the joiner inside an emoji) is dropped.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..events import Event, warning
from ..gguf_export.gguf_file import GgufFile
from ..plan import ChatPlan
from ..run_directory import RunDirectory, write_text
from .prompt import ChatPrompts

Row = dict[str, Any]
_QUOTES = '"""'
_KEPT = " \t\r\n"
_MARK = "# Made by AEGIS, run"


@dataclass(frozen=True)
class Recipe:
    """`parameters` are as Ollama names them; an empty `system` or `license` is none."""

    template: str
    system: str
    parameters: dict[str, Any]
    license: str

    @classmethod
    def of(cls, gguf: Path, prompts: ChatPrompts, plan: ChatPlan, license: str) -> "Recipe":
        """UserError if the model's chat template cannot be written in Ollama's language."""
        parameters = {
            "stop": list(prompts.stops),
            "temperature": plan.temperature,
            "top_p": plan.top_p,
            "top_k": plan.top_k,
            "num_ctx": plan.num_ctx,
            "repeat_penalty": plan.repeat_penalty,
        }
        template = prompts.format.go_template(server_adds_bos=adds_bos(gguf))
        system = plan.system if prompts.takes_system else ""
        return cls(_escaped(template), system, parameters, license)

    def request(self, name: str, files: dict[str, str]) -> Row:
        """The body of /api/create; `files` maps names to digests of blobs."""
        row: Row = {"model": name, "files": files, "template": self.template, "parameters": self.parameters}
        return row | {key: value for key, value in (("system", self.system), ("license", self.license)) if value}

    def modelfile(self, gguf: Path) -> str:
        """For a file that lies beside it; ValueError names the part that no Modelfile can hold."""
        lines = [f"FROM ./{gguf.name}", f"TEMPLATE {_quoted('template', self.template)}"]
        lines += [f"SYSTEM {_quoted('system', self.system)}"] if self.system else []
        for name, value in self.parameters.items():
            values = value if isinstance(value, list) else [value]
            lines += [f"PARAMETER {name} {_quoted(name, item) if isinstance(item, str) else item}" for item in values]
        lines += [f"LICENSE {_quoted('license', self.license)}"] if self.license else []
        return "\n".join(lines) + "\n"


def adds_bos(gguf: Path) -> bool:
    """Whether the file tells llama.cpp to put the leading token in front by itself."""
    return bool(GgufFile(gguf).value("tokenizer.ggml.add_bos_token"))


def write_modelfile(
    run: RunDirectory, gguf: Path, recipe: Recipe, model_name: str, emit: Callable[[Event], None]
) -> Path | None:
    """Write the Modelfile beside the exported file; where it lies, or None (with a warning) if it could not be written.

    It belongs to no step's recorded result: it follows the chat's settings, may be changed by hand, and is written anew
    whenever the model is opened. In a folder outside the run, which others may share, it carries the GGUF's name, and
    one that this run did not write is left alone.
    """
    inside = gguf.resolve().is_relative_to(run.path.resolve())
    path = gguf.with_name("Modelfile" if inside else f"{gguf.stem}.Modelfile")
    mark = f"{_MARK} {run.identity()}"
    try:
        if path.is_file() and not inside and not path.read_text(encoding="utf-8", errors="replace").startswith(mark):
            emit(warning("{path} was not written by this run and is left as it is.", path=path))
            return None
        by_hand = f"# By hand, in this folder: ollama create {model_name} -f {path.name}"
        text = f"{mark}\n{by_hand}\n{recipe.modelfile(gguf)}"
        if not path.is_file() or path.read_bytes() != text.encode():
            write_text(path, text)
    except ValueError as error:
        emit(warning("No Modelfile is written: none can hold this {part} letter by letter.", part=error))
        return None
    except OSError as error:
        emit(warning("The Modelfile could not be written: {problem}", problem=error))
        return None
    return path


def _escaped(template: str) -> str:
    """What a Modelfile would drop can only stand in a Go string, which has an escape for it."""
    return "".join(sign if sign.isprintable() or sign in _KEPT else _escape(sign) for sign in template)


def _escape(sign: str) -> str:
    return f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else f"\\U{ord(sign):08x}"


def _quoted(part: str, value: str) -> str:
    lines = value.replace("\r", "\n").split("\n")
    ends_early = any(line.rstrip(" \t").endswith(_QUOTES) for line in lines[:-1])
    if ends_early or any(not sign.isprintable() and sign not in _KEPT for sign in value):
        raise ValueError(part)
    return f"{_QUOTES}{value}{_QUOTES}"
