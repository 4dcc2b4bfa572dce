"""A model's own program code: left alone where transformers has classes of its own, and run only by written consent."""

import json
from collections.abc import Iterator
from pathlib import Path

import fake_hub
import pytest
import torch
from fake_hub import FakeHub, FakeModel
from huggingface_hub import constants
from tiny_families import build

from aegis_core.cancel import CancelToken
from aegis_core.context import StepContext
from aegis_core.failures import UserError
from aegis_core.models.consent import code_hash, own_code, require_consent, sentence
from aegis_core.models.identity import BaseModel, read_base, write_base
from aegis_core.models.loading import load_model, load_tokenizer
from aegis_core.models.resolve import resolve
from aegis_core.models.usable import require_usable
from aegis_core.plan import changed
from aegis_core.run_directory import RunDirectory, read_json, write_json

SOURCE = "maker/own-kind"
# What a model's own code looks like: transformers' Llama under another name, and a mark on the disk that it was run.
CONFIGURATION = """
from transformers import LlamaConfig
class OwnConfig(LlamaConfig):
    model_type = "own_kind"
"""
MODELING = """
from pathlib import Path
from transformers import LlamaForCausalLM
from .configuration_own import OwnConfig
Path({mark!r}).write_text("run", encoding="utf-8")
class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""
TOKENIZATION = """
from pathlib import Path
from transformers import PreTrainedTokenizerFast
Path({mark!r}).write_text("run", encoding="utf-8")
class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Exists as soon as the model's own code has been run."""
    return tmp_path / "run.txt"


@pytest.fixture
def own_model(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of a type that transformers does not know."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    folder = build("llama", tmp_path / "own kind")
    (folder / "configuration_own.py").write_text(CONFIGURATION, encoding="utf-8")
    (folder / "modeling_own.py").write_text(MODELING.format(mark=str(mark)), encoding="utf-8")
    auto_map = {
        "AutoConfig": "configuration_own.OwnConfig",
        "AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
    }
    configured(folder / "config.json", model_type="own_kind", architectures=["OwnForCausalLM"], auto_map=auto_map)
    return folder


@pytest.fixture
def own_tokenizer(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of a known type whose tokenizer needs its own code; its config points at code as well."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    folder = build("llama", tmp_path / "own tokenizer")
    (folder / "tokenizer.json").rename(folder / "own.json")
    (folder / "tokenization_own.py").write_text(TOKENIZATION.format(mark=str(mark)), encoding="utf-8")
    (folder / "modeling_own.py").write_text("raise SystemExit('the native class exists')", encoding="utf-8")
    configured(
        folder / "tokenizer_config.json",
        tokenizer_class="OwnTokenizer",
        auto_map={"AutoTokenizer": [None, "tokenization_own.OwnTokenizer"]},
        tokenizer_file="own.json",
    )
    configured(
        folder / "config.json",
        auto_map={"AutoConfig": "modeling_own.C", "AutoModelForCausalLM": "modeling_own.M"},
    )
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_model: Path) -> Iterator[FakeHub]:
    with fake_hub.serving(monkeypatch, tmp_path / "hub cache") as served:
        served.models[SOURCE] = FakeModel(own_model)
        yield served


def test_a_native_model_needs_no_code_whatever_its_config_points_at(tmp_path: Path) -> None:
    folder = build("phi3", tmp_path / "phi")
    auto_map = {"AutoConfig": "other/repo--x.C", "AutoModelForCausalLM": "modeling_phi3.Phi3"}
    configured(folder / "config.json", auto_map=auto_map)
    configured(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["x.T", None]}, tokenizer_class="Odd")
    assert own_code(folder) == ()
    require_usable(folder)
    assert type(load_model(folder, torch.float32)).__module__.startswith("transformers.models.phi3")


def test_without_consent_the_sentence_is_named_and_the_code_neither_fetched_nor_run(
    hub: FakeHub, run: RunDirectory, mark: Path
) -> None:
    model = hub.models[SOURCE]
    for consent in ("", "yes", sentence(SOURCE, "0" * 40), sentence("maker/another", model.commit)):
        with pytest.raises(UserError, match=r"brings program code of its own \(model\), which runs only") as refused:
            resolved(run, consent)
        assert f": I trust the program code of {SOURCE} at {model.commit} " in refused.value.advice
    assert not mark.exists()
    assert not list(Path(constants.HF_HUB_CACHE).rglob("*.py")) and not hub.fetched("modeling_own.py")
    assert not hub.fetched("model.safetensors")


def test_with_consent_the_code_is_fetched_and_the_later_checks_still_refuse_the_family(
    hub: FakeHub, run: RunDirectory, mark: Path
) -> None:
    with pytest.raises(UserError, match="type own_kind is not known to this version"):
        resolved(run, sentence(SOURCE, hub.models[SOURCE].commit))
    assert hub.fetched("modeling_own.py")
    assert not mark.exists() and not hub.fetched("model.safetensors")


def test_a_model_that_passes_the_checks_keeps_in_its_record_what_may_run(
    hub: FakeHub, run: RunDirectory, mark: Path
) -> None:
    consent = sentence(SOURCE, hub.models[SOURCE].commit)
    base = resolved(run, consent, check=lambda folder, parts: None)
    assert base.own_code == ("model",)
    write_base(run, base)
    assert read_base(run) == base
    model = load_model(base.path, torch.float32, own_code="model" in base.own_code)
    assert type(model).__name__ == "OwnForCausalLM" and mark.exists()


def test_the_loaders_run_no_code_unless_told(own_model: Path, own_tokenizer: Path, mark: Path) -> None:
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(own_model, torch.float32)
    with pytest.raises(UserError, match="cannot be read"):
        load_tokenizer(own_tokenizer)
    assert not mark.exists()


def test_a_consent_for_the_tokenizer_lets_only_the_tokenizer_run(own_tokenizer: Path, mark: Path) -> None:
    assert own_code(own_tokenizer) == ("tokenizer",)
    (own_tokenizer / "own.json").rename(own_tokenizer / "tokenizer.json")  # where its class would find it
    assert type(load_tokenizer(own_tokenizer, own_code=True)).__name__ == "OwnTokenizer"
    assert mark.exists()
    load_model(own_tokenizer, torch.float32)


def test_a_tokenizer_that_needs_code_is_refused_before_the_export_would(own_tokenizer: Path, run: RunDirectory) -> None:
    consent = sentence(str(own_tokenizer), code_hash(own_tokenizer))
    run.write_plan(changed(run.plan(), {"model.source": str(own_tokenizer), "model.remote_code_consent": consent}))
    with pytest.raises(UserError, match=r"needs program code of its own, which llama\.cpp could not run"):
        resolve(run.plan().model, context(run), require_usable)


def test_the_consent_to_a_folder_ends_with_the_first_changed_byte_of_code(own_model: Path, run: RunDirectory) -> None:
    consent = sentence(str(own_model), code_hash(own_model))
    run.write_plan(changed(run.plan(), {"model.source": str(own_model), "model.remote_code_consent": consent}))
    assert resolve(run.plan().model, context(run), lambda folder, parts: None).own_code == ("model",)
    with (own_model / "modeling_own.py").open("a", encoding="utf-8") as file:
        file.write("\n")
    with pytest.raises(UserError, match="written consent"):
        resolve(run.plan().model, context(run), lambda folder, parts: None)


def test_code_of_another_repository_is_never_run(own_model: Path) -> None:
    for name in ("AutoConfig", "AutoModelForCausalLM"):
        auto_map = {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"} | {name: "evil/repo--own.X"}
        configured(own_model / "config.json", auto_map=auto_map)
        with pytest.raises(UserError, match=r"lies in another repository: .*evil/repo--own\.X"):
            own_code(own_model)


def test_a_consent_is_compared_to_the_letter() -> None:
    require_consent("", SOURCE, "c", ())
    require_consent(f" I trust the program code of {SOURCE} at c\n", SOURCE, "c", ("model",))
    with pytest.raises(UserError):
        require_consent(f"i trust the program code of {SOURCE} at c", SOURCE, "c", ("model",))


def test_the_record_of_an_earlier_version_can_still_be_read(run: RunDirectory, tmp_path: Path) -> None:
    base = BaseModel("a/b", "c", str(tmp_path), "0" * 64, "mit", "X", 1, 8, 8, False, {"model.safetensors": "1"}, ())
    path = write_base(run, base)
    row = read_json(path)
    del row["files"], row["own_code"]
    write_json(path, row)
    assert read_base(run).files == {} and read_base(run).own_code == ()


def resolved(run: RunDirectory, consent: str, check=require_usable) -> BaseModel:  # type: ignore[no-untyped-def]
    run.write_plan(changed(run.plan(), {"model.source": SOURCE, "model.remote_code_consent": consent}))
    return resolve(run.plan().model, context(run), check)


def context(run: RunDirectory) -> StepContext:
    return StepContext(run, "prepare", lambda event: None, CancelToken())


def configured(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")
