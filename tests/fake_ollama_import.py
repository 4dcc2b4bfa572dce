"""What Ollama reads in a GGUF file before it makes a model of it, and what it refuses there."""

import struct
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any

import gguf
from jinja2.sandbox import ImmutableSandboxedEnvironment

SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
QUANTISED = ("F32", "F16", "Q4_K_S", "Q4_K_M", "Q8_0")


CHATML = "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
"""Where a file has no template and none was sent."""
NUMBER, WHOLE = ((int, float), "float32"), ((int,), "integer")
OPTIONS = {
    **dict.fromkeys(("temperature", "top_p", "min_p", "typical_p", "repeat_penalty"), NUMBER),
    **dict.fromkeys(("presence_penalty", "frequency_penalty"), NUMBER),
    **dict.fromkeys(("top_k", "seed", "num_ctx", "num_predict", "repeat_last_n"), WHOLE),
    "stop": ((list,), "array"),
}
PRE_TOKENIZERS = ("default", "llama-bpe", "qwen2", "smollm", "gpt-2", "mistral-nemo", "gemma4", "phi-2")
"""A few of those that its llama.cpp knows."""


class NotTaken(Exception):
    """In Ollama's words, with the status where it is the first thing that is said."""

    def __init__(self, text: str, status: int = 500) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Gguf:
    """`values` are the keys of the header without the arrays; `types` the tensors' types, `tensors` their names."""

    values: dict[str, Any]
    types: set[int]
    tensors: tuple[str, ...] = ()

    @property
    def jinja(self) -> str:
        return str(self.values.get("tokenizer.chat_template", ""))

    def autodetected(self) -> str:
        """The Go template that the server has for the file's own; it knows many, this one knows ChatML alone."""
        return CHATML if "<|im_start|>" in self.jinja else ""

    def loading_problem(self) -> str:
        """What passes the import and fails when the model is loaded."""
        pre = str(self.values.get("tokenizer.ggml.pre", "default"))
        if pre not in PRE_TOKENIZERS:
            return f"unknown pre-tokenizer type: '{pre}'"
        return "" if "token_embd.weight" in self.tensors else "missing tensor 'token_embd.weight'"

    def preferred_to(self, template: str) -> str:
        """The file's own Jinja where it knows of tools or thoughts and the template that was sent does not."""
        own = self.jinja
        return own if any(word in own and word not in template.lower() for word in ("tools", "think")) else ""


def read(data: bytes) -> Gguf:
    """NotTaken for other bytes, and for a file that ends before its header or its last tensor does."""
    if data[:4] != b"GGUF":
        raise NotTaken("supplied file was not in GGUF format", 400)
    file = BytesIO(data)
    file.seek(8)
    n_tensors, n_values = _scalar(file, "<Q"), _scalar(file, "<Q")
    values = {}
    for _ in range(n_values):
        key = _text(file)
        value = _value(file, _scalar(file, "<I"))
        if value is not None:
            values[key] = value
    tensors = [_tensor(file) for _ in range(n_tensors)]
    alignment = int(values.get("general.alignment", 32))
    begin = -(-file.tell() // alignment) * alignment
    for name, end, _ in tensors:
        if begin + end > len(data):
            raise NotTaken(f'tensor "{name}" offset+size ({begin + end}) exceeds file size ({len(data)})')
    return Gguf(values, {kind for _, _, kind in tensors}, tuple(name for name, _, _ in tensors))


def option_problem(options: dict[str, Any]) -> str:
    """An option of a wrong type, as the chat finds it; unknown ones are passed over."""
    for name, value in options.items():
        types, told = OPTIONS.get(name, ((object,), ""))
        if not isinstance(value, types) or isinstance(value, bool):
            return f'option "{name}" must be of type {told}'
    return ""


def check_quantize(wanted: str, file: Gguf) -> None:
    """NotTaken unless a file of full precision is to become one of the few types that Ollama makes."""
    if wanted.upper() not in QUANTISED:
        raise NotTaken(f"unsupported quantization type {wanted} - supported types are {', '.join(QUANTISED)}")
    if not file.types <= {0, 1, 30}:
        raise NotTaken("quantization is only supported for F16 and F32 models")


def _tensor(file: BytesIO) -> tuple[str, int, int]:
    """(name, where it ends behind the header, type)"""
    name = _text(file)
    n_values = 1
    for _ in range(_scalar(file, "<I")):
        n_values *= _scalar(file, "<Q")
    kind, offset = _scalar(file, "<I"), _scalar(file, "<Q")
    block, n_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
    return name, offset + n_values // block * n_bytes, kind


def _value(file: BytesIO, kind: int) -> Any:
    if kind == STRING:
        return _text(file)
    if kind == ARRAY:
        inner, n = _scalar(file, "<I"), _scalar(file, "<Q")
        for _ in range(n):
            _value(file, inner)
        return None
    return _scalar(file, SCALARS[kind])


def _text(file: BytesIO) -> str:
    return _bytes(file, _scalar(file, "<Q")).decode("utf-8", "replace")


def _scalar(file: BytesIO, form: str) -> Any:
    return struct.unpack(form, _bytes(file, struct.calcsize(form)))[0]


def _bytes(file: BytesIO, n: int) -> bytes:
    found = file.read(n)
    if len(found) < n:
        raise NotTaken("unexpected EOF")
    return found


def render_jinja(template: str, messages: list[dict[str, Any]]) -> str:
    """A file's own template, as the server runs it where it prefers it to the one sent; the leading token left out."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(template).render(messages=messages, add_generation_prompt=True, bos_token="")


def _refuse(text: str) -> None:
    raise NotTaken(text)
