"""The plan's fields as a form shows them: label, help, unit, bounds and options, all read from the plan. Qt-free."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from aegis_core.plan import DEMO, Frozen, Plan, demo_plan, get

from .i18n import mark

LABELS = {
    "model.source": mark("Base model"),
    "model.dtype": mark("Number format"),
    "model.remote_code_consent": mark("Consent to program code"),
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
    "search.minutes": mark("At most"),
    "search.compare": mark("Compare with the present settings"),
    "search.repeats": mark("Repeat on other seeds"),
    "search.learning_rate_log": mark("Learning rate on a log scale"),
    "search.alpha_warmup_low": mark("Shortest alpha warm-up"),
    "search.ranks": mark("LoRA ranks to try"),
    "search.dropout_low": mark("Lowest LoRA dropout"),
    "search.dropout_high": mark("Highest LoRA dropout"),
    "search.rotation_low": mark("Lowest rotation learning rate"),
    "search.rotation_high": mark("Highest rotation learning rate"),
    "search.pruner": mark("Cut short"),
    "search.storage": mark("Trials kept in"),
    "search.learning_rate_low": mark("Lowest learning rate"),
    "search.learning_rate_high": mark("Highest learning rate"),
    "search.warmup_steps_low": mark("Shortest warm-up"),
    "search.warmup_steps_high": mark("Longest warm-up"),
    "search.alpha_warmup_high": mark("Longest alpha warm-up"),
    "schedule.enabled": mark("Search before training"),
    "schedule.apply": mark("Use what was found"),
    "schedule.n_trials": mark("Trials"),
    "schedule.try_best": mark("Try the best in training"),
    "schedule.storage": mark("Trials kept in"),
    "lora.rank": mark("LoRA rank"),
    "lora.alpha": mark("LoRA strength"),
    "lora.dropout": mark("LoRA dropout"),
    "lora.targets": mark("Layers with an adapter"),
    "lora.rank_stabilised": mark("rsLoRA"),
    "lora.dora": mark("DoRA"),
    "soul.calibrate": mark("Calibrate the gate"),
    "soul.rotation_weight_decay": mark("Weight decay of the rotation"),
    "soul.rotation_waits": mark("While the gate is shut"),
    "soul.train_norm": mark("Train the final norm"),
    "soul.inner_layers": mark("Layers with a rotation"),
    "soul.alpha": mark("What moves alpha"),
    "soul.alpha_learning_rate": mark("Learning rate of alpha"),
    "soul.schedule.kind": mark("Shape of the curve"),
    "soul.schedule.warmup_fraction": mark("Alpha warm-up"),
    "soul.schedule.end_fraction": mark("Arrival"),
    "soul.schedule.hold_fraction": mark("Rest"),
    "train.accumulation": mark("Gradient accumulation"),
    "train.warmup_steps": mark("Warm-up steps"),
    "train.max_grad_norm": mark("Longest gradient"),
    "train.evaluate_steps": mark("Measure every"),
    "train.checkpoint_steps": mark("Checkpoint every"),
    "train.checkpoint_seconds": mark("Checkpoint every"),
    "train.keep_checkpoints": mark("Checkpoints kept"),
    "train.early_stopping": mark("Stop early after"),
    "train.gradient_checkpointing": mark("Gradient checkpointing"),
    "train.optimizer": mark("Optimiser"),
    "control.lora": mark("LoRA without gate"),
    "control.fixed": mark("Gate open from the start"),
    "control.orders": mark("Data orders"),
    "evaluation.kl_tokens": mark("Distance to the base"),
    "fuse.base": mark("Merged into"),
    "fuse.directory": mark("Folder of the fused model"),
    "export.types": mark("Files"),
    "export.directory": mark("Folder of the GGUF files"),
    "chat.model_name": mark("Name in Ollama"),
    "chat.backend": mark("Answered by"),
    "chat.replace_model": mark("May be replaced in Ollama"),
    "chat.questions": mark("Questions in"),
    "chat.n_questions": mark("Number of questions"),
    "chat.compare_base": mark("Ask the base model too"),
    "chat.measure_surprise": mark("Judge by the base model"),
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
    "f32": mark("F32 (32 bits)"),
    "bf16": mark("BF16 (16 bits)"),
    "f16": mark("F16"),
    "q8_0": mark("Q8_0 (8 bits)"),
    "q6_k": mark("Q6_K (6 bits)"),
    "q5_k_m": mark("Q5_K_M (5 bits)"),
    "q4_k_m": mark("Q4_K_M"),
    "q4_k_s": mark("Q4_K_S (4 bits, smallest)"),
    "float32": mark("float32"),
    "bfloat16": mark("bfloat16"),
    "float16": mark("float16"),
    "on": mark("On"),
    "median": mark("Below the median of others"),
    "successive_halving": mark("All but the best third"),
    "off": mark("Off"),
    "none": mark("Full precision"),
    "nf4": mark("4 bits (NF4)"),
    "original": mark("the original weights"),
    "dequantised_4bit": mark("the 4-bit weights, made wide"),
    "scheduled": mark("The schedule"),
    "learned": mark("Learning from the loss"),
    "no": mark("The rotation learns"),
    "scaled": mark("It learns with the gate"),
    "frozen": mark("It waits until half open"),
    "adamw": mark("AdamW"),
    "paged_adamw_8bit": mark("Paged 8-bit AdamW"),
}
UNITS = {
    "tokens": mark("tokens"),
    "trials": mark("trials"),
    "min": mark("min"),
    "seeds": mark("seeds"),
    "schedules": mark("schedules"),
    "steps": mark("steps"),
    "sequences": mark("sequences"),
    "samples": mark("samples"),
    "measurements": mark("measurements"),
    "orders": mark("orders"),
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
    """One setting. `low` and `high` are bounds, of each item where there are `many`; `low_open`/`high_open` say that
    the bound itself is not allowed. `may_be_empty` is for several: none at all is a value, too.
    """

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
    may_be_empty: bool = False

    @property
    def many(self) -> bool:
        return get_origin(self.type) is tuple

    @property
    def item(self) -> Any:
        """The type of one value: that of the items where there are many."""
        return _item(self.type)[0]


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
        **_bounds([*info.metadata, *_item(info.annotation)[1]]),
        may_be_empty=not any(isinstance(rule, annotated_types.MinLen) for rule in info.metadata),
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


def _item(annotation: Any) -> tuple[Any, list[Any]]:
    """The type of one value and what is asked of it."""
    if get_origin(annotation) is not tuple:
        return annotation, []
    item = get_args(annotation)[0]
    if get_origin(item) is not Annotated:
        return item, []
    kind, *rules = get_args(item)
    return kind, [part for rule in rules for part in (rule.metadata if isinstance(rule, FieldInfo) else [rule])]


def _bounds(rules: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for rule in rules:
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
