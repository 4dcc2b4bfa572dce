"""The model card: README.md of the fused folder, in the form Hugging Face reads, and the whole one of the run log.

Fusion leaves a card in the folder with what is known by then. The run log writes the whole one, with the GGUF files and
the answers, into its own folder: the card in the fused folder is an output of fusion and recorded as such, and a file
that changes after its step has finished is what `aegis verify` is there to find.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..chat.questions import load_questions
from ..plan import DEMO, PHYSICS, Plan
from ..run_directory import RunDirectory
from . import facts, markdown
from .background import DATA_FACTS
from .document import Block, Cell, Code, Missing, Mono, Section, Table, Text, Words, facts_table
from .evidence import Evidence
from .fusion import fusion_claims
from .phrases import Translate, phrase, translator
from .quality import read_stages
from .quality_section import explained, quality_table
from .repeat import flat_tree
from .results import fusion_table
from .wording import NONE, count, number, plain, size

NAME = "model-card.md"
DEMO_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
LANGUAGES = {"en": ["en"], "ja": ["ja"], "both": ["ja", "en"]}
RECIPE = (
    *("train.steps", "train.learning_rate", "train.batch_size", "train.seed", "data.sequence_length", "data.seed"),
    *("lora.rank", "lora.alpha", "lora.dropout", "soul.alpha", "soul.schedule.kind", "soul.calibrate", "fuse.base"),
)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_EXAMPLE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # where this file is
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
chat = [{{"role": "user", "content": "{question}"}}]
prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**prompt, max_new_tokens={max_tokens}, do_sample=True, temperature={temperature})
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1]:], skip_special_tokens=True))"""


def early_card(run: RunDirectory, plan: Plan, fused: Path) -> str:
    """The card of a model that was just fused and proved, in English; what comes later it does not know."""
    evidence = Evidence(run)
    proof = facts.optional_json(evidence, "fuse", "proof.json", dict) or {}
    origin = evidence.json_at(fused / "aegis.json")
    row = {
        "plan": plan.model_dump(mode="json"),
        "base": facts.optional_json(evidence, "prepare", "base.json", dict),
        "data": facts.optional_json(evidence, "prepare", "data.json", dict),
        "quality": read_stages(evidence)[0],
        "fusion": proof,
        "fusion_claims": fusion_claims(evidence, proof),
        "fusion_origin": origin,
        "training": {"summary": facts.optional_json(evidence, "train", "summary.json", dict)},
        "fused_files": {name: of["sha256"] for name, of in origin.get("files", {}).items()},
    }
    note = (
        "Written by AEGIS when the model was fused, before GGUF files and answers existed; the run log of the same run "
        "holds the whole card. It is recorded as an output of the run: change a copy."
    )
    return _card(row, note, translator("en"))


def whole_card(row: dict[str, Any], t: Translate) -> str:
    """The card with everything in report.json that belongs on it."""
    fused = {
        Path(file["path"]).name: file["sha256"]
        for file in row["files"]
        if file["step"] == "fuse" and file["path"].endswith(".safetensors") and "measured" not in file["path"]
    }
    note = t("Written by AEGIS with the run log, from the files of the run. Copy it into the folder as README.md.")
    return _card(row | {"fused_files": fused}, note, t)


def front_matter(row: dict[str, Any]) -> dict[str, Any]:
    """What Hugging Face reads, as far as it is known: a licence, a base or a language is never guessed."""
    base, plan = row["base"] or {}, row["plan"]
    found: dict[str, Any] = {}
    licence = str(base.get("license", ""))
    if licence and licence != "unknown":
        plain_name = _LICENCE.fullmatch(licence)
        found |= {"license": licence} if plain_name else {"license": "other", "license_name": licence}
    source = DEMO_ID if base.get("source") == DEMO else str(base.get("source", ""))
    if _HUB_ID.fullmatch(source) and base.get("revision") != "local":
        found |= {"base_model": source, "base_model_relation": "finetune"}
    if plan["data"]["source"] == PHYSICS:
        found["language"] = LANGUAGES[plan["data"]["language"]]
    elif (row["data"] or {}).get("commit") and _HUB_ID.fullmatch(str(plan["data"]["source"])):
        found["datasets"] = [plan["data"]["source"]]
    found |= {"library_name": "transformers", "pipeline_tag": "text-generation"}
    return found | {"tags": ["aegis", "lora", "so8-rotation", "alpha-gate"]}


def _card(row: dict[str, Any], note: str, t: Translate) -> str:
    front = "".join(
        f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in front_matter(row).items()
    )  # JSON is YAML, and nothing in a value can end it
    chapters = (_what, _data, _measured, _proof, _limits, _licence, _hashes, _use)
    sections = tuple(_readable(chapter, row, t) for chapter in chapters)
    title = markdown.escape(str(row["plan"]["chat"]["model_name"]))
    return f"---\n{front}---\n\n# {title}\n\n{markdown.escape(note)}\n\n{markdown.sections(sections, {})}"


def _readable(chapter: Callable[[dict[str, Any], Translate], Section], row: dict[str, Any], t: Translate) -> Section:
    """The chapter, or the gap it leaves where a file of the run has a form that cannot be told."""
    try:
        return chapter(row, t)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = phrase("its file does not have the expected form ({problem})", problem=repr(error))
        return Section(t("Data"), (Missing(t("{gap}: this cannot be shown.", gap=t(problem))),))


def _what(row: dict[str, Any], t: Translate) -> Section:
    base, summary, plan = row["base"], row["training"]["summary"], flat_tree(row["plan"])
    title = t("What this is")
    if base is None or summary is None:
        return Section(title, (Missing(t("Nothing to show: this step has no finished result.")),))
    said = t(
        "{base}, trained with LoRA (rank {rank}) and a rotation in SO(8) behind a gate, {steps} steps on {tokens} "
        "tokens. Adapter, gate and rotation are folded into plain weights of the base model's own architecture.",
        base=_name_of(base),
        rank=plan["lora.rank"],
        steps=count(summary.get("steps_done")),
        tokens=count(summary.get("tokens")),
    )
    rows: list[tuple[Cell, ...]] = [(Mono(name), Words(plain(plan[name]))) for name in RECIPE if name in plan]
    rows.append((t("alpha at the end"), number(summary.get("alpha_final"))))
    return Section(title, (Text(said), Table((t("setting"), t("value")), tuple(rows))))


def _data(row: dict[str, Any], t: Translate) -> Section:
    data = row["data"]
    title = t("Data")
    if data is None:
        return Section(title, (Missing(t("Nothing to show: this step has no finished result.")),))
    source = str(data.get("source"))
    rows: list[tuple[str, Cell]] = [(t("dataset"), Mono(Path(source).name if _is_local(data) else source))]
    rows += [(t(told), Mono(str(data[name]))) for name, told in DATA_FACTS.items() if data.get(name)]
    for part, told in {"train": "trained on", "held_out": "kept aside"}.items():
        counts = data.get(part) or {}
        said = t("{samples} texts, {sequences} sequences, {tokens} tokens", samples=counts.get("n_samples"),
                 sequences=counts.get("n_sequences"), tokens=count(counts.get("n_tokens")))  # fmt: skip
        rows.append((t(told), said))
    return Section(title, (facts_table(rows, t),))


def _measured(row: dict[str, Any], t: Translate) -> Section:
    stages = row["quality"]
    title = t("What was measured")
    if not stages:
        return Section(title, (Missing(t("The quality of this model was not measured.")),))
    lead = t("Mean loss on text that was kept aside, the same tokens at every stage; smaller is better.")
    blocks: list[Block] = [Text(lead), quality_table(stages, t), Text(explained(stages, t))]
    if answers := row.get("chat", {}).get("answers"):
        n_passed = sum(bool(answer["verdict"] and answer["verdict"]["passed"]) for answer in answers)
        said = t(
            "Of {total} physics questions {n} were answered meaningfully: in language that hangs together and is "
            "about what was asked. Whether the answers are true was not judged.",
            total=len(answers),
            n=n_passed,
        )
        blocks.append(Text(said))
    return Section(title, tuple(blocks))


def _proof(row: dict[str, Any], t: Translate) -> Section:
    title = t("Equality of the fused model")
    if not row["fusion_claims"]:
        return Section(title, (Missing(t("That these weights are the trained model was not measured.")),))
    explanation = t(
        "The gated model (unmerged adapter, gate and rotation) and the fused folder, on the same held-out tokens."
    )
    return Section(title, (Text(explanation), fusion_table(row["fusion_claims"], t)))


def _limits(row: dict[str, Any], t: Translate) -> Section:
    """What nobody measured is said in as many words."""
    n_tokens = next((stage.get("n_tokens") for stage in row["quality"].values()), None)
    said = [
        t(
            "The figures hold for {n} tokens of text like that of the training, kept aside by topic where it has "
            "topics, and for one training run with one seed. Other text was not measured.",
            n=count(n_tokens),
        ),
        t(
            "Nothing here says that answers are true. The judge of the answers looks for language that hangs together "
            "and for the ideas a question calls for; it cannot tell true from false."
        ),
        t("Safety, bias and suitability for any use were not measured. The limits of the base model remain."),
    ]
    return Section(t("Limits"), tuple(map(Text, said)))


def _licence(row: dict[str, Any], t: Translate) -> Section:
    licence = (row["base"] or {}).get("license")
    known = licence and licence != "unknown"
    base = (
        t(
            "The base model names {licence} as its licence; what that asks of this model, its text says.",
            licence=licence,
        )
        if known
        else t("The licence of the base model is not known to this run. Look it up before passing the model on.")
    )
    data = (
        t("The bundled questions are under CC0.")
        if row["plan"]["data"]["source"] == PHYSICS
        else t("The licence of the data was not recorded. Look it up before passing the model on.")
    )
    return Section(t("Licence"), (Text(base), Text(data)))


def _hashes(row: dict[str, Any], t: Translate) -> Section:
    origin = row["fusion_origin"] or {}
    rows: list[tuple[Cell, ...]] = [
        (t("base model"), Mono(str(origin.get("base_sha256") or NONE))),
        (t("adapter"), Mono(str(origin.get("adapter_sha256") or NONE))),
        (t("gate and rotation"), Mono(str(origin.get("soul_sha256") or NONE))),
        *((Mono(name), Mono(sha256)) for name, sha256 in row["fused_files"].items() if name.endswith(".safetensors")),
        *((Mono(Path(f["path"]).name), Mono(f["sha256"])) for f in row.get("export", {}).get("files", [])),
    ]
    return Section("SHA-256", (Table((t("what"), "SHA-256"), tuple(rows)),))


def _use(row: dict[str, Any], t: Translate) -> Section:
    chat = row["plan"]["chat"]
    code = _EXAMPLE.format(
        question=load_questions(chat["questions"])[0].question, **{n: chat[n] for n in ("max_tokens", "temperature")}
    )
    blocks: list[Block] = [
        Text(t("With transformers, nothing else is needed:")),
        Code(tuple(code.split("\n")), "python"),
    ]
    if files := row.get("export", {}).get("files"):
        lines = [f"ollama create {chat['model_name']} -f Modelfile", f"ollama run {chat['model_name']}"]
        listed = ", ".join(f"{Path(f['path']).name} ({size(f['bytes'])})" for f in files)
        if row["export"].get("modelfile"):
            blocks.append(
                Text(t("In Ollama, from the folder of the GGUF files and the Modelfile ({files}):", files=listed))
            )
            blocks.append(Code(tuple(lines), "sh"))
        else:
            needs = t(
                "GGUF files: {files}. Ollama needs a Modelfile beside them, which AEGIS writes when it chats through "
                "Ollama.",
                files=listed,
            )
            blocks.append(Text(needs))
    else:
        blocks.append(Text(t("For Ollama the model is converted to GGUF first, which AEGIS does in its next step.")))
    return Section(t("How to use it"), tuple(blocks))


def _is_local(data: dict[str, Any]) -> bool:
    """A file or folder of the user's, whose path is nobody else's business."""
    source = str(data.get("source"))
    return not data.get("commit") and ("/" in source or "\\" in source)


def _name_of(base: dict[str, Any]) -> str:
    """The base's name; of a local folder without its path."""
    source = str(base.get("source"))
    if source == DEMO:
        return DEMO_ID
    return Path(source).name if base.get("revision") == "local" else source
