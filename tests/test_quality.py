"""The quality chain: losses and KL token by token, their errors, what survives a kill, and what must turn red."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from aegis_core.cancel import Cancelled, CancelToken
from aegis_core.context import StepContext
from aegis_core.data.packed import IGNORED, Packed, save_packed
from aegis_core.evaluation import precision, reference
from aegis_core.evaluation.chain import Chain, adapted_model
from aegis_core.evaluation.measurement import Measurement, load_measurement, mean_and_error, paired, save_measurement
from aegis_core.evaluation.quality import measure, quality_of, read_quality, token_losses
from aegis_core.evaluation.reading import CHUNK_TOKENS, Plain, hidden_states, plain
from aegis_core.evaluation.reference import chosen_places
from aegis_core.events import Event, Log, Progress
from aegis_core.failures import UserError
from aegis_core.models.identity import BaseModel, write_base
from aegis_core.models.loading import device_for, load_model
from aegis_core.models.weights import weights_sha256
from aegis_core.plan import Plan, changed
from aegis_core.report.evidence import Evidence
from aegis_core.report.quality import quality_checks, read_stages
from aegis_core.run_directory import RunDirectory
from aegis_core.soul.gate import Gate, Soul
from aegis_core.steps import fuse
from aegis_core.training.gated_model import GatedModel

VOCABULARY, HIDDEN, N, T = 96, 64, 6, 32


@pytest.fixture(scope="session")
def quality_base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A random Llama with decided opinions."""
    folder = tmp_path_factory.mktemp("quality") / "素体 base"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    model.save_pretrained(folder)
    sha256 = weights_sha256(folder, CancelToken())
    return BaseModel("pico", "r1", str(folder), sha256, "cc0", "LlamaForCausalLM", 80_000, HIDDEN, VOCABULARY, False)


@pytest.fixture(scope="session")
def quality_template(tmp_path_factory: pytest.TempPathFactory, quality_base: BaseModel) -> RunDirectory:
    """A run as prepare and train leave it, with an adapter that changes something; copied, never changed."""
    run = RunDirectory.create(tmp_path_factory.mktemp("quality") / "ri tual 日本語", Plan())
    run.step_folder("prepare").mkdir()
    write_base(run, quality_base)
    save_packed(run.step_folder("prepare") / "held_out.safetensors", held_out())
    torch.manual_seed(3)
    adapted = get_peft_model(
        load_model(quality_base.path, torch.float32), LoraConfig(r=4, target_modules=["q_proj", "down_proj"])
    )
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    adapted.save_pretrained(run.step_folder("train") / "adapter")
    generator = torch.randn(HIDDEN // 8, 28) * 0.3
    base = quality_base
    Soul(1.618, generator, True, base.source, base.revision, base.sha256).save(
        run.step_folder("train") / "soul.safetensors"
    )
    return run


@pytest.fixture
def quality_run(tmp_path: Path, quality_template: RunDirectory) -> RunDirectory:
    return copied(quality_template, tmp_path)


def copied(run: RunDirectory, folder: Path) -> RunDirectory:
    shutil.copytree(run.path, folder / run.path.name)
    return RunDirectory.open(folder / run.path.name)


def held_out() -> Packed:
    ids = torch.randint(0, VOCABULARY, (N, T), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[:, :8] = IGNORED
    labels[2] = IGNORED  # a sequence in which nothing counts
    return Packed(ids, labels)


def chain_of(run: RunDirectory, stage: str = "train", n_kl: int = 50) -> tuple[Chain, list[Event]]:
    events: list[Event] = []
    ctx = StepContext(run, stage, events.append, CancelToken())
    return Chain.of(ctx, changed(run.plan(), {"evaluation.kl_tokens": n_kl})), events


def log_probabilities(logits_of: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """(n, V) float64 at every counted token, straight from the definition."""
    packed = held_out()
    with torch.no_grad():
        rows = [logits_of(ids[None])[0, :-1].double().log_softmax(-1) for ids in packed.input_ids]
    return torch.cat([row[labels[1:] != IGNORED] for row, labels in zip(rows, packed.labels, strict=True)])


def adapter_of(run: RunDirectory) -> Path:
    return run.step_folder("train") / "adapter"


def soul_of(run: RunDirectory) -> Path:
    return run.step_folder("train") / "soul.safetensors"


def phases(events: list[Event]) -> set[str]:
    return {event.phase for event in events if isinstance(event, Progress)}


# Losses


def test_every_way_of_reading_a_model_gives_the_same_losses(quality_base: BaseModel) -> None:
    model, packed = load_model(quality_base.path, torch.float32), held_out()
    whole = token_losses(Plain(model).logits, packed, CancelToken()).losses
    parts = token_losses(plain(model, packed.input_ids[0]), packed, CancelToken()).losses
    shut = GatedModel(model, Gate(HIDDEN, calibrate=True, alpha=0.0), shut=True).eval()
    logits = torch.cat([model(ids[None]).logits[0, :-1] for ids in packed.input_ids])
    exact = cross_entropy(logits, packed.labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="none")
    expected = exact[packed.labels[:, 1:].flatten() != IGNORED]
    assert len(expected) == packed.n_counted == 5 * 24
    for found in (whole, parts, token_losses(shut, packed, CancelToken()).losses):
        assert torch.allclose(found, expected, atol=1e-5)


def test_long_sequences_are_read_in_chunks_without_losing_a_token(quality_base: BaseModel) -> None:
    head = torch.randn(VOCABULARY, 8)
    states = torch.randn(1, 2 * CHUNK_TOKENS + 31, 8)
    ids = torch.randint(0, VOCABULARY, states.shape[:2])
    sizes: list[int] = []

    class Told:
        """Hears the chunks."""

        def see(self, first: int, logits: torch.Tensor) -> None:
            assert first == sum(sizes)
            sizes.append(len(logits))

        def divergences(self) -> torch.Tensor:
            return torch.zeros(1)

    logits = states @ head.T
    found = token_losses(lambda _: logits, Packed(ids, ids.clone()), CancelToken(), distance=Told())
    assert torch.allclose(found.losses, cross_entropy(logits[0, :-1], ids[0, 1:], reduction="none"))
    assert sizes == [CHUNK_TOKENS, CHUNK_TOKENS, 30]


def test_a_model_that_scales_its_logits_is_read_through_its_own_forward(quality_base: BaseModel) -> None:
    model = load_model(quality_base.path, torch.float32)
    probe = held_out().input_ids[0]
    assert isinstance(plain(model, probe), Plain)
    forward = model.forward

    def cooler(**given: object) -> object:
        out = forward(**given)
        out.logits = out.logits / 2
        return out

    model.forward = cooler
    found = token_losses(plain(model, probe), held_out(), CancelToken()).losses
    assert torch.allclose(found, token_losses(Plain(model).logits, held_out(), CancelToken()).losses)


def test_standard_errors_are_those_of_a_mean() -> None:
    values = torch.randn(500, generator=torch.Generator().manual_seed(0))
    mean, error = mean_and_error(values)
    many = torch.stack([values[torch.randint(0, 500, (500,))].mean() for _ in range(4000)])
    assert mean == pytest.approx(values.double().mean().item(), abs=1e-12)
    assert error == pytest.approx(many.std().item(), rel=0.05)
    assert error == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in values.tolist()) / 499 / 500), rel=1e-6)


def test_a_paired_difference_has_a_much_smaller_error_than_its_parts() -> None:
    torch.manual_seed(0)
    one = torch.randn(1000) * 3 + 3
    other = one + 0.01 + torch.randn(1000) * 0.02
    found = paired(other, one)
    by_hand = [b - a for a, b in zip(one.double().tolist(), other.double().tolist(), strict=True)]
    mean = sum(by_hand) / 1000
    assert found.difference == pytest.approx(mean, abs=1e-12) and found.n_tokens == 1000
    assert found.standard_error == pytest.approx(math.sqrt(sum((d - mean) ** 2 for d in by_hand) / 999 / 1000))
    assert found.standard_error < mean_and_error(one)[1] / 50
    with pytest.raises(ValueError, match="cannot be paired"):
        paired(one, other[1:])


# KL


def test_kl_is_the_exact_one_at_evenly_spread_tokens(quality_run: RunDirectory, quality_base: BaseModel) -> None:
    chain, _ = chain_of(quality_run)
    chain.base()
    quality = chain.adapted("gated", adapter_of(quality_run), soul_of(quality_run))
    base = log_probabilities(Plain(load_model(quality_base.path, torch.float32)).logits)
    stage = log_probabilities(
        adapted_model(quality_base, adapter_of(quality_run), soul_of(quality_run), torch.float32).logits
    )
    places = torch.tensor([i * 120 // 50 for i in range(50)])
    exact = (base.exp() * (base - stage)).sum(-1)[places]
    found = load_measurement(chain.path("gated"))[0].divergences
    assert found is not None and torch.allclose(found.double(), exact, atol=2e-3)
    mean, error = mean_and_error(exact)
    assert mean > 0.05 and quality.kl == pytest.approx(mean, abs=3e-4)
    assert quality.kl_standard_error == pytest.approx(error, rel=1e-2) and quality.kl_tokens == 50


def test_a_stage_equal_to_the_base_is_at_no_distance_and_none_is_negative(
    quality_run: RunDirectory, quality_base: BaseModel
) -> None:
    chain, _ = chain_of(quality_run, n_kl=10_000)
    itself = chain.base()
    assert itself.kl is not None and 0 <= itself.kl < 1e-5 and itself.kl_tokens == 120
    distance = chain.distance()
    again = chain.measure("again", Plain(load_model(quality_base.path, torch.float32)), distance)
    assert again.divergences is not None and again.divergences.min() >= 0
    assert quality_of(again).kl == pytest.approx(itself.kl, rel=1e-3)


def test_impossible_tokens_do_not_spoil_the_distance() -> None:
    base = torch.tensor([[0.5, 0.5, 0.0]]).double().log()
    model = torch.tensor([[0.25, 0.5, 0.25]]).double().log()
    assert reference.divergence(base, model).item() == pytest.approx(0.5 * math.log(2))
    assert reference.divergence(model, base).item() == math.inf


def test_the_base_is_read_again_where_its_predictions_were_deleted(quality_run: RunDirectory) -> None:
    chain, _ = chain_of(quality_run)
    chain.base()
    before = chain.adapted("lora", adapter_of(quality_run))
    chain.forget_base()
    chain.path("lora").unlink()
    chain, events = chain_of(quality_run)
    assert chain.adapted("lora", adapter_of(quality_run)) == before
    assert phases(events) == {"base model", "LoRA without gate"}


def test_predictions_of_another_base_or_of_other_tokens_are_not_used(quality_run: RunDirectory) -> None:
    chain, _ = chain_of(quality_run)
    chain.base()
    moved = held_out()
    save_packed(
        quality_run.step_folder("prepare") / "held_out.safetensors", Packed(moved.input_ids.roll(1, 0), moved.labels)
    )
    chain, events = chain_of(quality_run)
    chain.adapted("lora", adapter_of(quality_run))
    assert "base model" in phases(events)


def test_without_a_wish_for_kl_nothing_large_is_written(quality_run: RunDirectory) -> None:
    chain, events = chain_of(quality_run, n_kl=0)
    assert chain.base().kl is None
    assert chain.adapted("lora", adapter_of(quality_run)).kl_tokens is None
    assert not (quality_run.step_folder("train") / "base_logprobs.safetensors").exists()
    assert not [event for event in events if isinstance(event, Log)]


def test_a_full_disk_costs_kl_and_is_said(quality_run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    room = shutil.disk_usage(quality_run.path)
    monkeypatch.setattr(reference.shutil, "disk_usage", lambda path: room._replace(free=4 * 2 * VOCABULARY * 40))
    chain, events = chain_of(quality_run)
    assert chain.base().kl_tokens == 40
    assert next(e.text for e in events if isinstance(e, Log)).endswith("on 40 tokens instead of 50.")
    chain.forget_base()
    monkeypatch.setattr(reference.shutil, "disk_usage", lambda path: room._replace(free=1000))
    chain, events = chain_of(quality_run)
    assert chain.adapted("lora", adapter_of(quality_run)).kl is None
    assert next(e.text for e in events if isinstance(e, Log)).endswith("on 0 tokens instead of 50.")


def test_an_attempt_that_a_full_disk_held_to_fewer_tokens_compares_all_once_there_is_room(
    quality_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = shutil.disk_usage(quality_run.path)
    with monkeypatch.context() as full:
        full.setattr(reference.shutil, "disk_usage", lambda path: room._replace(free=4 * 2 * VOCABULARY * 40))
        assert chain_of(quality_run)[0].base().kl_tokens == 40
        assert chain_of(quality_run)[0].base().kl_tokens == 40
    assert chain_of(quality_run)[0].base().kl_tokens == 50


def test_the_summary_and_the_bases_predictions_are_put_right_when_an_attempt_goes_on(quality_run: RunDirectory) -> None:
    chain, _ = chain_of(quality_run)
    quality = chain.base()
    folder = quality_run.step_folder("train")
    predictions, summary = folder / "base_logprobs.safetensors", folder / "quality.json"
    whole, said = predictions.read_bytes(), summary.read_text(encoding="utf-8")
    summary.write_text(said.replace("1", "2", 1)[: len(said) // 2], encoding="utf-8")
    predictions.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert chain_of(quality_run)[0].base() == quality
    assert predictions.read_bytes() == whole
    summary.write_text("{", encoding="utf-8")
    assert chain_of(quality_run)[0].base() == quality  # kept this time
    assert summary.read_text(encoding="utf-8") == said


def test_places_are_spread_over_all_tokens(tmp_path: Path) -> None:
    assert chosen_places(120, 50, VOCABULARY, tmp_path).tolist() == [i * 120 // 50 for i in range(50)]
    assert chosen_places(5, 50, VOCABULARY, tmp_path).tolist() == [0, 1, 2, 3, 4]
    assert chosen_places(0, 50, VOCABULARY, tmp_path).tolist() == []


# Where and in which numbers


def a_gpu_with(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, 12_000_000_000))


@pytest.mark.parametrize(("free", "expected"), [(10_700_000_000, "cuda"), (10_500_000_000, "cpu")])
def test_fake_gpu_takes_only_what_finds_room_beside_a_batch(
    free: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_gpu_with(free, monkeypatch)
    assert device_for(7_800_000_000).type == expected


def test_a_fake_card_with_room_for_one_sequence_is_read_one_by_one(quality_base: BaseModel) -> None:
    model = load_model(Path(quality_base.path), torch.float32)

    class Crowded(Plain):
        def hidden(self, input_ids: torch.Tensor) -> torch.Tensor:
            if len(input_ids) > room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().hidden(input_ids)

    ids, room = torch.arange(40).view(4, 10), 1
    assert torch.allclose(hidden_states(Crowded(model), ids), Plain(model).hidden(ids), atol=1e-5)
    room = 0
    with pytest.raises(torch.OutOfMemoryError):
        hidden_states(Crowded(model), ids)


def test_fake_gpu_without_room_leaves_measuring_to_the_cpu_and_says_so_once(
    quality_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_gpu_with(2_000_000_000, monkeypatch)
    chain, events = chain_of(quality_run)
    chain.base()
    chain.adapted("lora", adapter_of(quality_run))
    assert phases(events) == {"base model", "LoRA without gate"}
    assert [e.text for e in events if isinstance(e, Log)] == [
        "The GPU has no room for the unquantised model (0.0 GB in float32): it is measured on the CPU, "
        "which takes longer."
    ]


def test_all_stages_of_a_run_are_computed_in_what_its_base_was(
    quality_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "checkpoint_dtype", lambda folder: torch.bfloat16)
    chain_of(quality_run)[0].base()
    room = precision.psutil.virtual_memory()
    monkeypatch.setattr(precision.psutil, "virtual_memory", lambda: room._replace(available=0))
    assert precision.computing_dtype(torch.bfloat16, 80_000) is torch.bfloat16
    assert chain_of(quality_run, "export")[0].dtype is torch.float32
    ctx = StepContext(quality_run, "fuse", lambda event: None, CancelToken())
    fuse.run(changed(quality_run.plan(), {"evaluation.kl_tokens": 0}), ctx)
    proof = json.loads((ctx.folder / "proof.json").read_text(encoding="utf-8"))
    assert proof["computed_in"] == "float32"


# What survives a kill


def test_a_measured_stage_is_not_measured_again_and_a_changed_one_is(quality_run: RunDirectory) -> None:
    chain, _ = chain_of(quality_run)
    base, lora = chain.base(), chain.adapted("lora", adapter_of(quality_run))
    again, events = chain_of(quality_run)
    assert (again.base(), again.adapted("lora", adapter_of(quality_run))) == (base, lora)
    assert phases(events) == set()
    path = adapter_of(quality_run) / "adapter_config.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"lora_alpha": 8', '"lora_alpha": 16'), encoding="utf-8")
    assert again.adapted("lora", adapter_of(quality_run)).loss != lora.loss
    assert set(read_quality(quality_run.path / "train" / "quality.json")) == {"base", "lora"}


def test_a_stop_in_the_middle_of_a_stage_loses_that_stage_alone(quality_run: RunDirectory) -> None:
    chain, _ = chain_of(quality_run)
    chain.base()
    token = CancelToken()

    def stop(event: Event) -> None:
        if isinstance(event, Progress) and event.done == 3:
            token.cancel()

    stopped = Chain.of(StepContext(quality_run, "train", stop, token), Plan())
    stopped = Chain(stopped.ctx, stopped.base_model, stopped.held_out, 50)
    with pytest.raises(Cancelled):
        stopped.adapted("lora", adapter_of(quality_run))
    assert not chain.path("lora").exists()
    again, events = chain_of(quality_run)
    again.base()
    again.adapted("lora", adapter_of(quality_run))
    assert phases(events) == {"LoRA without gate"}


def test_a_base_whose_measuring_was_stopped_leaves_no_half_predictions(quality_run: RunDirectory) -> None:
    token = CancelToken()
    ctx = StepContext(quality_run, "train", lambda e: token.cancel() if isinstance(e, Progress) else None, token)
    with pytest.raises(Cancelled):
        Chain.of(ctx, Plan()).base()
    left = {path.name for path in quality_run.step_folder("train").iterdir()}
    assert left == {"adapter", "soul.safetensors"}


def test_a_proof_stopped_after_the_gated_model_does_not_measure_it_again(quality_run: RunDirectory) -> None:
    token = CancelToken()
    ctx = StepContext(
        quality_run, "fuse", lambda e: token.cancel() if isinstance(e, Progress) and e.phase == "fused" else None, token
    )
    with pytest.raises(Cancelled):
        fuse.run(quality_run.plan(), ctx)
    events: list[Event] = []
    fuse.run(quality_run.plan(), StepContext(quality_run, "fuse", events.append, CancelToken()))
    assert phases(events) == {"hash", "fused"}
    found = read_quality(quality_run.path / "fuse" / "quality.json")
    fresh, _ = chain_of(quality_run, "chat", quality_run.plan().evaluation.kl_tokens)
    gated = fresh.adapted("gated", adapter_of(quality_run), soul_of(quality_run))
    assert found["gated"].loss == pytest.approx(gated.loss, abs=1e-6) and found["gated"].kl_tokens == 120
    assert found["fused"].kl == pytest.approx(gated.kl, rel=1e-3)
    assert sorted(path.name for path in (quality_run.path / "fuse").iterdir()) == [
        "head.json", "measured", "model", "proof.json", "quality.json",
    ]  # fmt: skip


def test_a_trained_model_in_memory_is_measured_as_it_is(quality_run: RunDirectory, quality_base: BaseModel) -> None:
    chain, _ = chain_of(quality_run)
    chain.base()
    coarse = load_model(quality_base.path, torch.float32)
    with torch.no_grad():
        coarse.lm_head.weight.copy_((coarse.lm_head.weight * 4).round() / 4)  # as 4 bits would
    gated = GatedModel(coarse, Gate(HIDDEN, calibrate=True, alpha=0.0), shut=True).eval()
    files = {"adapter": adapter_of(quality_run), "soul": soul_of(quality_run)}
    quality = chain.trained("gated_nf4", gated, **files)
    assert quality.loss == pytest.approx(measure(gated, held_out(), CancelToken()).loss)
    assert quality.kl is not None and quality.kl > 1e-4
    again, events = chain_of(quality_run)
    assert again.trained("gated_nf4", gated, **files) == quality and phases(events) == set()


# Files


def test_a_quality_file_of_an_earlier_version_still_reads(tmp_path: Path) -> None:
    path = tmp_path / "quality.json"
    path.write_text(
        '{"base": {"loss": 3.3, "perplexity": 27.1, "n_tokens": 99, "standard_error": 0.03, "later": 1}}',
        encoding="utf-8",
    )
    quality = read_quality(path)["base"]
    assert (quality.loss, quality.kl, quality.kl_tokens) == (3.3, None, None)


def test_a_damaged_file_of_losses_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gated.safetensors"
    path.write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match=r"gated\.safetensors is damaged"):
        load_measurement(path)


# The report


@pytest.fixture(scope="session")
def measured_template(quality_template: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Base, lora, gated and fused measured; train and fuse done."""
    quality_run = copied(quality_template, tmp_path_factory.mktemp("measured"))
    chain, _ = chain_of(quality_run)
    chain.base()
    chain.adapted("lora", adapter_of(quality_run))
    fuse.run(
        changed(quality_run.plan(), {"evaluation.kl_tokens": 50}),
        StepContext(quality_run, "fuse", lambda event: None, CancelToken()),
    )
    for step in ("train", "fuse"):
        ctx = StepContext(quality_run, step, lambda event: None, CancelToken())
        for path in [ctx.folder / "quality.json", *(ctx.folder / "measured").iterdir()]:
            ctx.artifact(path, evidence=True)
        quality_run.write_done(step, {}, {}, ctx.artifacts, 1.0)
    return quality_run


@pytest.fixture
def measured_run(measured_template: RunDirectory, tmp_path: Path) -> RunDirectory:
    return copied(measured_template, tmp_path)


def checks(run: RunDirectory) -> dict[str, str]:
    evidence = Evidence(run)
    stages, _ = read_stages(evidence)
    return {name: finding.status for name, finding in quality_checks(evidence, stages, math.log(VOCABULARY)).items()}


def test_the_report_pairs_each_stage_with_the_one_before(measured_run: RunDirectory) -> None:
    stages, gaps = read_stages(Evidence(measured_run))
    assert list(stages) == ["base", "lora", "gated", "fused"] and len(gaps) == 1
    assert "against_previous" not in stages["base"]
    before = [stages[name]["against_previous"]["stage"] for name in ("lora", "gated", "fused")]
    assert before == ["base", "lora", "gated"]
    pair = stages["fused"]["against_base"]
    assert pair["difference"] == pytest.approx(stages["fused"]["loss"] - stages["base"]["loss"], abs=1e-9)
    assert abs(stages["fused"]["against_previous"]["difference"]) < 1e-6
    found = checks(measured_run)
    assert (found["same_tokens"], found["figures_follow"], found["fused_equals_gated"]) == ("pass", "pass", "pass")


@pytest.mark.parametrize(
    ("file", "field"),
    [
        ("train/quality.json", "loss"),
        ("train/quality.json", "standard_error"),
        ("fuse/quality.json", "kl"),
        ("fuse/quality.json", "perplexity"),
    ],
)
def test_a_figure_that_does_not_follow_from_its_tokens_is_red(
    measured_run: RunDirectory, file: str, field: str
) -> None:
    path = measured_run.path / file
    rows = json.loads(path.read_text(encoding="utf-8"))
    stage = "gated" if "gated" in rows else "base"
    rows[stage][field] *= 0.999
    path.write_text(json.dumps(rows), encoding="utf-8")
    assert checks(measured_run)["figures_follow"] == "fail"


def test_doctored_tokens_are_red_even_when_the_summary_was_doctored_with_them(measured_run: RunDirectory) -> None:
    chain, _ = chain_of(measured_run, "fuse")
    measured, of = load_measurement(chain.path("fused"))
    measured.losses.sub_(0.01)
    chain.keep("fused", measured, of)
    found = checks(measured_run)
    assert (found["figures_follow"], found["fused_equals_gated"]) == ("fail", "fail")


def test_a_claim_is_held_against_the_tokens_and_not_the_summary_alone(measured_run: RunDirectory) -> None:
    path = measured_run.path / "fuse" / "measured" / "fused.safetensors"
    measured, of = load_measurement(path)
    save_measurement(path, Measurement(measured.losses + 0.01, measured.divergences), of)
    assert checks(measured_run)["fused_equals_gated"] == "fail"


def test_stages_of_other_tokens_are_neither_paired_nor_comparable(measured_run: RunDirectory) -> None:
    path = measured_run.path / "fuse" / "measured" / "gated.safetensors"
    measured, of = load_measurement(path)
    save_measurement(path, measured, of | {"tokens": "another hash"})
    stages, _ = read_stages(Evidence(measured_run))
    assert "against_previous" not in stages["gated"] and "against_previous" not in stages["fused"]
    assert checks(measured_run)["same_tokens"] == "fail"


def test_a_damaged_file_of_losses_is_red_and_not_an_error(measured_run: RunDirectory) -> None:
    (measured_run.path / "fuse" / "measured" / "gated.safetensors").write_bytes(b"\0" * 100)
    assert checks(measured_run)["figures_follow"] == "fail"


def test_runs_of_earlier_versions_are_reported_without_pairs(measured_run: RunDirectory) -> None:
    for step in ("train", "fuse"):
        shutil.rmtree(measured_run.path / step / "measured")
    stages, _ = read_stages(Evidence(measured_run))
    assert not any("against_base" in row for row in stages.values())
    assert checks(measured_run)["figures_follow"] == "skipped"
