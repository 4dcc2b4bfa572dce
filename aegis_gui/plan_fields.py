"""The plan's fields as a form shows them: label, help, unit, bounds and options, all read from the plan. Qt-free."""

from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from aegis_core.plan import DEMO, Frozen, Plan, demo_plan, get

from .i18n import mark

LABELS = {
    "model.source": mark("Base model"),
    "model.dtype": mark("Number format"),
    "data.source": mark("Dataset"),
    "data.language": mark("Questions in"),
    "data.format": mark("Read as"),
    "data.text_field": mark("Text column"),
    "data.question_field": mark("Question column"),
    "data.answer_field": mark("Answer column"),
    "data.messages_field": mark("Chat column"),
    "data.encoding": mark("Encoding"),
    "data.max_samples": mark("At most"),
    "data.packing": mark("Join short samples"),
    "data.over_long": mark("Over-long samples"),
    "data.subset": mark("Subset"),
    "data.split": mark("Split of the dataset"),
    "data.revision": mark("Version of the dataset"),
    "data.streaming": mark("Piece by piece"),
    "data.held_out_fraction": mark("Held-out part"),
    "search.enabled": mark("Search before training"),
    "search.apply": mark("Use what was found"),
    "search.n_trials": mark("Trials"),
    "search.learning_rate_low": mark("Lowest learning rate"),
    "search.learning_rate_high": mark("Highest learning rate"),
    "search.warmup_steps_low": mark("Shortest warm-up"),
    "search.warmup_steps_high": mark("Longest warm-up"),
    "search.alpha_warmup_high": mark("Longest alpha warm-up"),
    "schedule.enabled": mark("Search before training"),
    "schedule.apply": mark("Use what was found"),
    "schedule.n_trials": mark("Trials"),
    "lora.rank": mark("LoRA rank"),
    "lora.alpha": mark("LoRA strength"),
    "lora.dropout": mark("LoRA dropout"),
    "soul.calibrate": mark("Calibrate the gate"),
    "soul.schedule.kind": mark("Shape of the curve"),
    "soul.schedule.warmup_fraction": mark("Alpha warm-up"),
    "soul.schedule.end_fraction": mark("Arrival"),
    "train.accumulation": mark("Gradient accumulation"),
    "train.warmup_steps": mark("Warm-up steps"),
    "train.max_grad_norm": mark("Longest gradient"),
    "train.evaluate_steps": mark("Measure every"),
    "train.checkpoint_steps": mark("Checkpoint every"),
    "train.checkpoint_seconds": mark("Checkpoint every"),
    "train.keep_checkpoints": mark("Checkpoints kept"),
    "fuse.directory": mark("Folder of the fused model"),
    "export.types": mark("Files"),
    "export.directory": mark("Folder of the GGUF files"),
    "chat.model_name": mark("Name in Ollama"),
    "chat.backend": mark("Answered by"),
    "chat.questions": mark("Questions in"),
    "chat.n_questions": mark("Number of questions"),
    "chat.system": mark("System prompt"),
    "chat.top_p": mark("Top p"),
    "chat.top_k": mark("Top k"),
    "chat.num_ctx": mark("Context length"),
    "chat.max_tokens": mark("Longest answer"),
    "report.language": mark("Language"),
}
OPTIONS = {
    "auto": mark("Automatic"),
    "chat": mark("Questions and answers"),
    "text": mark("Plain text"),
    "utf-8": mark("UTF-8"),
    "shift_jis": mark("Shift-JIS"),
    "split": mark("Split"),
    "drop": mark("Leave out"),
    "en": mark("English"),
    "ja": mark("Japanese"),
    "both": mark("Both"),
    "sigmoid": mark("Sigmoid"),
    "linear": mark("Linear"),
    "cosine": mark("Cosine"),
    "exponential": mark("Exponential"),
    "two_phase": mark("Two phases"),
    "ollama": mark("Ollama"),
    "embedded": mark("Built-in llama.cpp"),
    "f16": mark("F16"),
    "q4_k_m": mark("Q4_K_M"),
    "float32": mark("float32"),
    "bfloat16": mark("bfloat16"),
    "float16": mark("float16"),
    "on": mark("On"),
    "off": mark("Off"),
    "nf4": mark("4 bits (NF4)"),
}
UNITS = {
    "tokens": mark("tokens"),
    "trials": mark("trials"),
    "steps": mark("steps"),
    "sequences": mark("sequences"),
    "samples": mark("samples"),
    "s": mark("s"),
    "": "",
}
SUGGESTIONS = {
    "model.source": ("demo", "AXCXEPT/Borea-Phi-3.5-mini-Instruct-Jp", "microsoft/Phi-3.5-mini-instruct"),
    "data.source": ("physics", "TFMC/imatrix-dataset-for-japanese-llm"),
}
FOLDERS = ("model.source", "fuse.directory", "export.directory")
FILES = ("data.source",)


@dataclass(frozen=True)
class PlanField:
    """One setting. `low` and `high` are bounds; `low_open`/`high_open` say that the bound itself is not allowed."""

    name: str
    label: str
    help: str
    unit: str
    advanced: bool
    type: Any
    options: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False

    @property
    def many(self) -> bool:
        return get_origin(self.type) is tuple


def plan_field(name: str) -> PlanField:
    """The field "section.field"; UsageError if the plan has none of that name."""
    get(Plan(), name)
    *sections, last = name.split(".")
    owner: type[Frozen] = type(get(Plan(), ".".join(sections))) if sections else Plan
    info = owner.model_fields[last]
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    return PlanField(
        name,
        LABELS.get(name) or last.replace("_", " ").capitalize(),
        info.description or "",
        str(extra.get("unit", "")),
        bool(extra.get("advanced")),
        info.annotation,
        _options(info.annotation),
        **_bounds(info),
    )


def all_names(model: type[Frozen] = Plan, prefix: str = "") -> list[str]:
    """Every "section.field" of the plan, in order."""
    names: list[str] = []
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, Frozen):
            names += all_names(kind, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


def default(plan: Plan, name: str) -> Any:
    """What "reset" means: the demo's own value while the demo model is chosen."""
    return get(demo_plan() if plan.model.source == DEMO else Plan(), name)


def _options(annotation: Any) -> tuple[str, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) is tuple:
        return _options(get_args(annotation)[0])
    return ()


def _bounds(info: FieldInfo) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for rule in info.metadata:
        match rule:
            case annotated_types.Ge():
                found["low"] = rule.ge
            case annotated_types.Gt():
                found |= {"low": rule.gt, "low_open": True}
            case annotated_types.Le():
                found["high"] = rule.le
            case annotated_types.Lt():
                found |= {"high": rule.lt, "high_open": True}
    return found
