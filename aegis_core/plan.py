"""Every setting of every step: frozen, with default, bounds, unit and help.

The window's forms and the terminal's `--set section.field=value` read these same fields. A field's
`json_schema_extra` may hold `unit`, `advanced` (shown under "Advanced") and `cosmetic` (a change does not make
finished steps stale).
"""

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .failures import UsageError

GOLDEN_RATIO = (1 + math.sqrt(5)) / 2
DEMO = "demo"
PHYSICS = "physics"


def setting(
    default: Any, description: str, *, unit: str = "", advanced: bool = False, cosmetic: bool = False, **bounds: Any
) -> Any:
    """A pydantic field with the extras the forms need."""
    extra: dict[str, Any] = {"unit": unit, "advanced": advanced, "cosmetic": cosmetic}
    return Field(default, description=description, json_schema_extra=extra, **bounds)


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


class ModelPlan(Frozen):
    source: str = setting(
        "AXCXEPT/Borea-Phi-3.5-mini-Instruct-Jp",
        "Hub id, local folder, or demo for the embedded 135M model.",
        min_length=1,
    )
    revision: str = setting("main", "Branch, tag or commit on the hub.", advanced=True, min_length=1)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", "Number format for computing; auto follows the hardware.", advanced=True
    )
    quantisation: Literal["auto", "none", "nf4"] = setting(
        "auto",
        "How the frozen base is kept while training: auto takes 4 bits (NF4) on an NVIDIA GPU and none on a CPU.",
    )
    remote_code_consent: str = setting(
        "", "Program code that a model brings along runs only with the sentence named here.", advanced=True
    )


class DataPlan(Frozen):
    source: str = setting(
        PHYSICS,
        "physics for the bundled questions, a file or folder (jsonl, json, csv, tsv, parquet, txt), or a hub id.",
        min_length=1,
    )
    language: Literal["en", "ja", "both"] = setting("both", "Which half of the bundled questions to use.")
    subset: str = setting("", "Subset of a hub dataset that comes in several; empty takes the only one.", advanced=True)
    split: str = setting("train", "Split of a hub dataset.", advanced=True, min_length=1)
    revision: str = setting("main", "Branch, tag or commit of a hub dataset.", advanced=True, min_length=1)
    format: Literal["auto", "chat", "text"] = setting(
        "auto", "Questions with answers, or plain text; auto looks at the columns."
    )
    text_field: str = setting("", "Column that holds plain text; empty lets AEGIS find it.", advanced=True)
    question_field: str = setting("", "Column that holds the questions; empty lets AEGIS find it.", advanced=True)
    answer_field: str = setting("", "Column that holds the answers; empty lets AEGIS find it.", advanced=True)
    messages_field: str = setting("", "Column that holds whole chats; empty lets AEGIS find it.", advanced=True)
    encoding: Literal["utf-8", "shift_jis"] = setting(
        "utf-8", "How a local text file is written; Shift-JIS is common on Japanese Windows.", advanced=True
    )
    max_samples: int = setting(0, "Take at most this many samples; 0 takes all.", unit="samples", advanced=True, ge=0)
    streaming: bool = setting(
        False,
        "Read a hub dataset piece by piece instead of fetching it whole; needs a number of samples.",
        advanced=True,
    )
    packing: bool = setting(
        True, "Join short samples in one sequence; without it each sample fills a sequence of its own.", advanced=True
    )
    over_long: Literal["split", "drop"] = setting(
        "split", "What becomes of samples longer than one sequence.", advanced=True
    )
    sequence_length: int = setting(1024, "Length of one packed training sequence.", unit="tokens", ge=32, le=131072)
    held_out_fraction: float = setting(
        0.15, "Part that is kept aside for measuring, split by topic where topics exist.", advanced=True, gt=0, le=0.5
    )
    seed: int = setting(0, "Decides which part is kept aside.", advanced=True, ge=0)


class SearchPlan(Frozen):
    enabled: bool = setting(False, "Search for better settings before training.")
    apply: bool = setting(True, "Write the best settings found into the training plan.")
    n_trials: int = setting(12, "How many short training runs to try.", unit="trials", ge=1, le=1000)
    minutes: float = setting(
        0.0, "No new trial begins once the trials took so long together; 0 sets no limit.", unit="min", ge=0
    )
    tokens_per_trial: int = setting(8192, "Every trial trains on this many tokens.", unit="tokens", ge=256)
    compare: bool = setting(True, "Measure the present settings on the same tokens, to see what the search is worth.")
    repeats: int = setting(
        0, "Train the best and the present settings again on so many other seeds.", unit="seeds", ge=0, le=10
    )
    learning_rate_low: float = setting(1e-6, "Lowest learning rate to try.", advanced=True, gt=0, le=1)
    learning_rate_high: float = setting(1e-3, "Highest learning rate to try.", advanced=True, gt=0, le=1)
    learning_rate_log: bool = setting(True, "Try learning rates evenly on a logarithmic scale.", advanced=True)
    batch_sizes: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = setting(
        (1, 2, 4), "Batch sizes to try.", advanced=True, min_length=1
    )
    warmup_steps_low: int = setting(2, "Shortest warm-up to try.", unit="steps", advanced=True, ge=0)
    warmup_steps_high: int = setting(10, "Longest warm-up to try.", unit="steps", advanced=True, ge=0)
    alpha_warmup_low: float = setting(
        0.0, "Shortest alpha warm-up to try, as a part of all steps.", advanced=True, ge=0, le=0.9
    )
    alpha_warmup_high: float = setting(
        0.4, "Longest alpha warm-up to try, as a part of all steps.", advanced=True, ge=0, le=0.9
    )
    ranks: tuple[Annotated[int, Field(ge=1, le=256)], ...] = setting(
        (), "LoRA ranks to try; none leaves the rank as it is.", advanced=True
    )
    dropout_low: float = setting(0.0, "Lowest LoRA dropout to try.", advanced=True, ge=0, lt=1)
    dropout_high: float = setting(
        0.0, "Highest LoRA dropout to try; 0 leaves the dropout as it is.", advanced=True, ge=0, lt=1
    )
    rotation_low: float = setting(1e-5, "Lowest learning rate of the rotation to try.", advanced=True, gt=0, le=1)
    rotation_high: float = setting(
        0.0, "Highest learning rate of the rotation to try; 0 leaves it as it is.", advanced=True, ge=0, le=1
    )
    pruner: Literal["median", "successive_halving", "off"] = setting(
        "median",
        "Which trials are cut short: those below the median of others, all but the best third, or none.",
        advanced=True,
    )
    storage: str = setting(
        "",
        "Where the trials are kept: empty for the run itself; a journal file on a shared folder or a database address "
        "lets several machines search together.",
        advanced=True,
    )
    seed: int = setting(0, "Seed of the search.", advanced=True, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> "SearchPlan":
        for name in ("learning_rate", "warmup_steps", "alpha_warmup"):
            if getattr(self, f"{name}_low") > getattr(self, f"{name}_high"):
                raise ValueError(f"{name}_low lies above {name}_high")
        for name in ("dropout", "rotation"):
            if 0 < getattr(self, f"{name}_high") < getattr(self, f"{name}_low"):
                raise ValueError(f"{name}_low lies above {name}_high")
        return self


class ScheduleSearchPlan(Frozen):
    enabled: bool = setting(False, "Search for the smoothest and fastest alpha schedule before training.")
    apply: bool = setting(True, "Write the best schedule found into the training plan.")
    n_trials: int = setting(100, "How many schedules to try; each takes milliseconds.", unit="trials", ge=1, le=100000)
    smoothness_weight: float = setting(0.5, "0 favours early convergence, 1 favours small steps.", ge=0, le=1)
    try_best: int = setting(
        0,
        "Train with so many of the best schedules for a short while and choose by the held-out loss; 0 goes by the "
        "score alone.",
        unit="schedules",
        ge=0,
        le=20,
    )
    tokens_per_trial: int = setting(
        8192, "Every schedule that is tried in training gets this many tokens.", unit="tokens", advanced=True, ge=256
    )
    storage: str = setting(
        "",
        "Where the trials are kept: empty for the run itself; a journal file on a shared folder or a database address "
        "lets several machines search together.",
        advanced=True,
    )
    seed: int = setting(0, "Seed of the search.", advanced=True, ge=0)


class LoraPlan(Frozen):
    rank: int = setting(16, "Width of the low-rank update.", ge=1, le=256)
    alpha: int = setting(32, "Strength of the update; it is scaled by alpha / rank.", ge=1, le=1024)
    dropout: float = setting(0.05, "Part of the adapter's input dropped while training.", ge=0, lt=1)
    targets: tuple[str, ...] = setting(
        (), "Layers that get an adapter, e.g. qkv_proj, o_proj; empty takes every linear layer.", advanced=True
    )
    rank_stabilised: bool = setting(False, "Scale by alpha / √rank instead of alpha / rank (rsLoRA).", advanced=True)
    dora: bool = setting(False, "Learn direction and length of the weights apart (DoRA); slower.", advanced=True)


class AnnealingPlan(Frozen):
    kind: Literal["sigmoid", "linear", "cosine", "exponential", "two_phase"] = setting(
        "sigmoid", "How alpha travels from its start to its target."
    )
    steepness: float = setting(12.0, "How sharp the transition of the sigmoid is.", gt=0, le=60)
    warmup_fraction: float = setting(0.0, "Part of all steps in which alpha stays at its start.", ge=0, le=0.9)
    end_fraction: float = setting(1.0, "Part of all steps after which alpha has arrived.", gt=0, le=1)
    hold_fraction: float = setting(
        0.0, "Part of its way for which alpha rests in the middle; 0 lets it pass through.", ge=0, le=0.9
    )

    @model_validator(mode="after")
    def _ordered(self) -> "AnnealingPlan":
        if self.warmup_fraction >= self.end_fraction:
            raise ValueError("alpha would have to arrive (end_fraction) before it may start (warmup_fraction)")
        return self


class SoulPlan(Frozen):
    calibrate: bool = setting(True, "Divide by 1 + gate so that opening the gate does not sharpen the answers.")
    rotation_learning_rate: float = setting(
        3e-4, "Learning rate of the rotation; above 1e-3 it costs quality.", ge=0, le=1
    )
    rotation_weight_decay: float = setting(0.0, "Weight decay of the rotation.", advanced=True, ge=0, le=1)
    rotation_waits: Literal["no", "scaled", "frozen"] = setting(
        "no",
        "While the gate is shut the rotation learns fully, in proportion to the gate, or not until it is half open.",
        advanced=True,
    )
    train_norm: bool = setting(False, "The weight of the final norm learns as well.", advanced=True)
    inner_layers: tuple[Annotated[int, Field(ge=0)], ...] = setting(
        (), "Layers whose output gets a gated rotation of its own, counted from 0; empty takes none.", advanced=True
    )
    alpha: Literal["scheduled", "learned"] = setting(
        "scheduled", "Alpha follows the schedule, or learns from the loss; never both.", advanced=True
    )
    alpha_learning_rate: float = setting(1e-2, "Learning rate of alpha where it is learned.", advanced=True, gt=0, le=1)
    alpha_start: float = setting(
        -5.0, "Alpha at the first step; the gate is almost shut.", advanced=True, ge=-20, le=20
    )
    alpha_target: float = setting(
        GOLDEN_RATIO, "Alpha at the last step; the golden ratio.", advanced=True, ge=-20, le=20
    )
    schedule: AnnealingPlan = Field(AnnealingPlan(), description="The way of alpha.")


class TrainPlan(Frozen):
    steps: int = setting(500, "Optimiser steps.", unit="steps", ge=2, le=10_000_000)
    batch_size: int = setting(2, "Sequences per forward pass.", unit="sequences", ge=1, le=1024)
    accumulation: int = setting(1, "Forward passes per optimiser step.", ge=1, le=1024)
    learning_rate: float = setting(2.7e-4, "Learning rate of the adapter.", gt=0, le=1)
    warmup_steps: int = setting(6, "Steps over which the learning rate rises.", unit="steps", ge=0)
    weight_decay: float = setting(0.0, "Weight decay of the adapter.", advanced=True, ge=0, le=1)
    max_grad_norm: float = setting(
        1.0, "Gradients longer than this are shortened, adapter and rotation each.", advanced=True, gt=0
    )
    seed: int = setting(42, "Seed of data order, dropout and adapter initialisation.", advanced=True, ge=0)
    checkpoint_steps: int = setting(
        100, "Save a checkpoint at least every so many steps.", unit="steps", advanced=True, cosmetic=True, ge=1
    )
    checkpoint_seconds: float = setting(
        180.0, "Save a checkpoint at least every so many seconds.", unit="s", advanced=True, cosmetic=True, gt=0
    )
    keep_checkpoints: int = setting(
        5, "How many of the newest checkpoints are kept.", advanced=True, cosmetic=True, ge=1
    )
    evaluate_steps: int = setting(
        50, "Measure the held-out loss every so many steps; 0 only at the end.", unit="steps", ge=0
    )
    early_stopping: int = setting(
        0,
        "Stop when so many measurements in a row bring no better held-out loss, once alpha has arrived; 0 never stops.",
        unit="measurements",
        advanced=True,
        ge=0,
    )
    gradient_checkpointing: Literal["auto", "on", "off"] = setting(
        "auto", "Compute activations twice to save memory; auto does so on a GPU.", advanced=True
    )
    optimizer: Literal["auto", "adamw", "paged_adamw_8bit"] = setting(
        "auto", "auto takes the paged 8-bit AdamW on an NVIDIA GPU and plain AdamW on a CPU.", advanced=True
    )


class ControlPlan(Frozen):
    lora: bool = setting(False, "Also train LoRA without the gate, for comparison; takes as long again.")
    fixed: bool = setting(False, "Also train with the gate open from the first step, for comparison; as long again.")
    orders: int = setting(
        1,
        "Data orders in which every comparison is made; a transition can be claimed from three on.",
        unit="orders",
        advanced=True,
        ge=1,
        le=20,
    )


class EvaluationPlan(Frozen):
    kl_tokens: int = setting(
        2048,
        "Held-out tokens on which the distance to the base model (KL) is measured; 0 does not.",
        unit="tokens",
        advanced=True,
        ge=0,
    )


class FusePlan(Frozen):
    base: Literal["original", "dequantised_4bit"] = setting(
        "original",
        "What the adapter is merged into: the original weights, or the 4-bit ones it was trained on, made wide again.",
        advanced=True,
    )
    directory: str = setting("", "Folder for the fused model; empty means inside the run.")


GgufType = Literal["f32", "bf16", "f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_k_s"]


class ExportPlan(Frozen):
    types: tuple[GgufType, ...] = setting(("f16", "q4_k_m"), "Which GGUF files to write.", min_length=1)
    directory: str = setting("", "Folder for the GGUF files; empty means inside the run. Another drive is fine.")


class ChatPlan(Frozen):
    model_name: str = setting("aegis", "Name of the model in Ollama.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]{0,79}$")
    backend: Literal["auto", "ollama", "embedded"] = setting(
        "auto", "Ollama when it answers, otherwise the built-in llama.cpp."
    )
    replace_model: str = setting(
        "",
        "Name of a model in Ollama that AEGIS did not make and may replace nevertheless.",
        advanced=True,
        cosmetic=True,
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._/:-]{0,84})?$",
    )
    questions: Literal["en", "ja"] = setting("ja", "Language of the physics questions.")
    n_questions: int = setting(3, "How many physics questions to ask.", ge=1, le=23)
    compare_base: bool = setting(True, "Ask the base model the same questions and show its answers beside.")
    measure_surprise: bool = setting(
        True,
        "Measure how likely the base model finds each answer: the strongest check against gibberish.",
        advanced=True,
    )
    system: str = setting("", "System prompt; empty leaves it to the model.", advanced=True)
    temperature: float = setting(0.7, "0 always takes the likeliest word.", ge=0, le=2)
    top_p: float = setting(
        0.9, "Only the likeliest words that make up this part are drawn from.", gt=0, le=1, advanced=True
    )
    top_k: int = setting(40, "Only this many likeliest words are drawn from.", ge=1, le=1000, advanced=True)
    num_ctx: int = setting(
        4096, "How much of the conversation the model sees.", unit="tokens", ge=256, le=131072, advanced=True
    )
    repeat_penalty: float = setting(1.1, "Above 1 discourages repetition.", ge=0.5, le=2, advanced=True)
    max_tokens: int = setting(400, "Longest answer.", unit="tokens", ge=16, le=8192)
    seed: int = setting(0, "Seed of the answers.", advanced=True, ge=0)


class ReportPlan(Frozen):
    language: Literal["en", "ja"] = setting("ja", "Language of the run log.")


class Plan(Frozen):
    model: ModelPlan = ModelPlan()
    data: DataPlan = DataPlan()
    search: SearchPlan = SearchPlan()
    schedule: ScheduleSearchPlan = ScheduleSearchPlan()
    lora: LoraPlan = LoraPlan()
    soul: SoulPlan = SoulPlan()
    train: TrainPlan = TrainPlan()
    control: ControlPlan = ControlPlan()
    evaluation: EvaluationPlan = EvaluationPlan()
    fuse: FusePlan = FusePlan()
    export: ExportPlan = ExportPlan()
    chat: ChatPlan = ChatPlan()
    report: ReportPlan = ReportPlan()


def demo_plan() -> Plan:
    """The quick ritual on the embedded model: minutes on two cores, English only (the model speaks nothing else)."""
    return changed(
        Plan(),
        {
            "model.source": DEMO,
            "data.language": "en",
            "data.sequence_length": 128,
            "train.steps": 80,
            "train.evaluate_steps": 20,
            "chat.questions": "en",
            "chat.model_name": "aegis-demo",
            "chat.n_questions": 6,
            "chat.temperature": 0.2,  # as in the example of this small model's own card
        },
    )


def get(plan: Plan, name: str) -> Any:
    """The value of "section.field", e.g. "soul.schedule.kind"; UsageError if there is no such setting."""
    value: Any = plan
    for part in name.split("."):
        if not isinstance(value, Frozen) or part not in type(value).model_fields:
            raise UsageError("There is no setting {name}.", "aegis set --list shows all settings.", name=name)
        value = getattr(value, part)
    return value


def changed(plan: Plan, changes: dict[str, Any]) -> Plan:
    """The plan with "section.field" values replaced and everything validated; UsageError names the bad one."""
    tree = plan.model_dump()
    for name, value in changes.items():
        get(plan, name)
        *sections, last = name.split(".")
        place = tree
        for section in sections:
            place = place[section]
        place[last] = value
    return _validated(tree)


def parsed(assignment: str) -> tuple[str, Any]:
    """("section.field", value) from "section.field=value"; a value that is JSON counts as such, else it is text."""
    name, equals, text = assignment.partition("=")
    if not equals:
        raise UsageError(
            "{text} is not of the form section.field=value.", "Write e.g. train.steps=200.", text=assignment
        )
    field_type = type(get(Plan(), name.strip()))
    if field_type is str:
        return name.strip(), text
    if field_type is tuple and not text.lstrip().startswith("["):
        return name.strip(), [_json_or_text(item) for item in text.split(",") if item]
    return name.strip(), _json_or_text(text)


def loads(text: str, path: Path) -> Plan:
    """A plan from JSON text; UsageError names the file and the first bad field."""
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(
            "{path} is not readable as a plan: {problem} in line {line}.",
            "Mend or delete that file; aegis new writes a fresh one.",
            path=path,
            problem=error.msg,
            line=error.lineno,
        ) from error
    return _validated(tree, str(path))


def dumps(plan: Plan) -> str:
    return plan.model_dump_json(indent=2) + "\n"


def _validated(tree: Any, where: str = "the plan") -> Plan:
    try:
        return Plan.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "The content"
        advice = "Change that setting; aegis set --list shows what is allowed."
        problem = first["msg"].removeprefix("Value error, ")
        if first["type"] == "value_error":
            raise UsageError(
                "{name} in {where} does not fit together: {problem}.", advice, name=name, where=where, problem=problem
            ) from error
        if first["type"] == "extra_forbidden":
            raise UsageError(
                "There is no setting {name}, which {where} holds.", advice, name=name, where=where
            ) from error
        raise UsageError(
            "{name} in {where} cannot be {value}: {problem}.",
            advice,
            name=name,
            where=where,
            value=repr(first["input"])[:60],
            problem=problem,
        ) from error


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
