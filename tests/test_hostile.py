"""Damaged and hostile files, by hypothesis: one sentence or a sound result, never another error, never a name taken."""

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_families_fusion import ingredients_for
from tiny_families import build

from aegis_core.cancel import CancelToken
from aegis_core.failures import UserError
from aegis_core.fusion.anatomy import read_anatomy
from aegis_core.fusion.ingredients import Ingredients
from aegis_core.fusion.merge import merge
from aegis_core.gguf_export.gguf_file import GgufFile
from aegis_core.models.weights import stored_tensors, weight_files, weights_sha256
from aegis_core.soul.gate import Soul, load_soul

MANY = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
HUGE = st.sampled_from([-1, 0, 1, 2**31, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64])
ANY_JSON = st.recursive(
    st.none() | st.booleans() | HUGE | st.integers(-9, 99) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
DTYPES = st.sampled_from(
    ["F64", "F32", "F16", "BF16", "I64", "I8", "U8", "BOOL", "F8_E4M3", "F4", "C64", "X", "", None]
)


def sentence(work: Callable[[], Any]) -> UserError | None:
    """What `work` was refused with, in one line with an advice; None if it went well. Anything else is raised."""
    try:
        work()
    except UserError as error:
        assert error.reason.strip() and "\n" not in error.reason and error.advice
        return error
    return None


@st.composite
def mutations(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A way to spoil a safetensors file."""
    kind = draw(st.sampled_from(["cut", "flip", "length", "tensor", "duplicate", "header", "value"]))
    part, number, value = draw(st.floats(0, 1, exclude_max=True)), draw(HUGE), draw(ANY_JSON)
    field, dtype = draw(st.sampled_from(["dtype", "shape", "data_offsets", "name", ""])), draw(DTYPES)
    numbers = draw(st.lists(HUGE | st.integers(0, 5000), max_size=3))

    def spoiled(good: bytes) -> bytes:
        (length,) = struct.unpack("<Q", good[:8])
        header, data = good[8 : 8 + length], good[8 + length :]
        if kind == "cut":
            return good[: int(len(good) * part)]
        if kind == "flip":
            place = 8 + int(length * part)
            return good[:place] + bytes([good[place] ^ 1 << abs(number) % 8]) + good[place + 1 :]
        if kind == "length":
            return struct.pack("<Q", number % 2**64) + good[8:]
        if kind == "value":  # NaN, infinity and other bit patterns among the numbers
            place = int(len(data) * part) // 4 * 4
            return good[: 8 + length + place] + b"\xff\xff\xff\x7f" + good[8 + length + place + 4 :]
        tree = json.loads(header)
        names = [name for name in tree if name != "__metadata__"]
        name = names[int(len(names) * part)]
        if kind == "header":
            text = json.dumps(value)
        elif kind == "duplicate":
            text = json.dumps(tree)[:-1] + f", {json.dumps(name)}: {json.dumps(tree[name])}}}"
        else:
            row = tree.pop(name)
            if field == "name":
                name = draw(st.sampled_from(["", "../x", "model.norm.weight", "a" * 300, "名"]))
            elif field == "dtype":
                row["dtype"] = dtype
            elif field:
                row[field] = numbers if number else value
            text = json.dumps(tree | ({name: row} if field else {}))
        return struct.pack("<Q", len(text.encode())) + text.encode() + data

    return spoiled


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Ingredients:
    folder = tmp_path_factory.mktemp("hostile")
    return ingredients_for(folder / "adapter", build("llama", folder / "base"))


def merged(ingredients: Ingredients, tmp_path: Path) -> UserError | None:
    """Merge the base as it is on the disk, as if the training had seen it so: the checks behind the hash are meant."""
    beside = {path.name for path in tmp_path.iterdir()}
    base = replace(ingredients.base, sha256=weights_sha256(ingredients.base.path, CancelToken()))
    refused = sentence(lambda: merge(replace(ingredients, base=base), tmp_path / "out", CancelToken()))
    assert {path.name for path in tmp_path.iterdir()} == beside | (set() if refused else {"out"})
    if not refused:
        stored_tensors(tmp_path / "out")
        shutil.rmtree(tmp_path / "out")
    return refused


@MANY
@given(spoil=mutations())
def test_a_spoiled_base_is_refused_or_harmless(good: Ingredients, tmp_path: Path, spoil: Callable) -> None:
    base = tmp_path / "base"
    shutil.rmtree(base, ignore_errors=True)
    shutil.copytree(good.base.path, base)
    file = base / "model.safetensors"
    file.write_bytes(spoil(file.read_bytes()))
    merged(replace(good, base=replace(good.base, folder=str(base))), tmp_path)


@MANY
@given(spoil=mutations())
def test_a_spoiled_adapter_is_refused_or_harmless(good: Ingredients, tmp_path: Path, spoil: Callable) -> None:
    adapter = tmp_path / "adapter"
    shutil.rmtree(adapter, ignore_errors=True)
    shutil.copytree(good.adapter, adapter)
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(spoil(file.read_bytes()))
    merged(replace(good, adapter=adapter), tmp_path)


@MANY
@given(field=st.sampled_from(["r", "lora_alpha", "use_dora", "use_rslora", "peft_type", "bias", "x"]), value=ANY_JSON)
def test_a_spoiled_adapter_configuration_is_refused_or_harmless(
    good: Ingredients, tmp_path: Path, field: str, value: object
) -> None:
    adapter = tmp_path / "adapter"
    shutil.rmtree(adapter, ignore_errors=True)
    shutil.copytree(good.adapter, adapter)
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {field: value}), encoding="utf-8")
    merged(replace(good, adapter=adapter), tmp_path)


@MANY
@given(spoil=mutations())
def test_a_spoiled_gate_is_refused_or_harmless(good: Ingredients, tmp_path: Path, spoil: Callable) -> None:
    path = tmp_path / "soul.safetensors"
    good.soul.save(path)
    path.write_bytes(spoil(path.read_bytes()))
    found: list[Soul] = []
    if not sentence(lambda: found.append(load_soul(path))):
        assert found[0].generator.isfinite().all()


@MANY
@given(data=st.data())
def test_a_spoiled_configuration_is_refused_or_harmless(good: Ingredients, tmp_path: Path, data: st.DataObject) -> None:
    tree = json.loads((good.base.path / "config.json").read_text(encoding="utf-8"))
    tree[data.draw(st.sampled_from(sorted(tree)))] = data.draw(ANY_JSON)
    (tmp_path / "config.json").write_text(json.dumps(tree), encoding="utf-8")
    sentence(lambda: read_anatomy(tmp_path))


NAMES = [
    "../x.safetensors", "/x.safetensors", "\\\\host\\share\\x.safetensors", "C:\\x.safetensors", "C:x.safetensors",
    "a/b.safetensors", "x.safetensors\0", ".safetensors", "..safetensors", "NUL.safetensors",
    "x" * 5000 + ".safetensors", "名" * 90 + ".safetensors", "\ud800.safetensors", "\n.safetensors",
    "model.safetensors", "MODEL.safetensors", "model.safetensors:stream",
]  # fmt: skip


@MANY
@given(names=st.lists(st.sampled_from(NAMES) | st.text(max_size=8).map(lambda n: n + ".safetensors"), min_size=1))
def test_an_index_leads_to_files_of_its_own_folder_or_nowhere(
    good: Ingredients, tmp_path: Path, names: list[str]
) -> None:
    folder = tmp_path / "base"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(good.base.path / "model.safetensors", folder / "model.safetensors")
    shutil.copyfile(good.base.path / "model.safetensors", tmp_path / "x.safetensors")
    index = {"weight_map": {str(n): name for n, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    found: list[Path] = []
    if not sentence(lambda: found.extend(weight_files(folder))):
        assert {path.parent for path in found} == {folder} and all(path.is_file() for path in found)
    sentence(lambda: stored_tensors(folder))


# GGUF


@pytest.fixture(scope="module")
def good_gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "good.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("名 name")
    writer.add_block_count(2)
    writer.add_array("tokens", ["a", "b", "時間"])
    writer.add_array("scores", [1.0, 2.0, 3.0])
    writer.add_tensor("a", np.ones((4, 32), dtype=np.float32))
    writer.add_tensor("b", np.ones((3, 64), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@settings(MANY, max_examples=500)
@given(
    kind=st.sampled_from(["cut", "flip", "number", "word", "more"]), part=st.floats(0, 1, exclude_max=True), number=HUGE
)
def test_a_spoiled_gguf_file_is_refused_or_read(
    good_gguf: bytes, tmp_path: Path, kind: str, part: float, number: int
) -> None:
    header = good_gguf.index(np.ones(32, dtype=np.float32).tobytes())
    place, width = int(header * part), 8 if kind == "number" else 4
    spoiled = {
        "cut": good_gguf[: int(len(good_gguf) * part)],
        "flip": good_gguf[:place] + bytes([good_gguf[place] ^ 1 << abs(number) % 8]) + good_gguf[place + 1 :],
        "more": good_gguf + bytes(int(1000 * part) + 1),
    }.get(kind, good_gguf[:place] + (number % 256**width).to_bytes(width, "little") + good_gguf[place + width :])
    path = tmp_path / "spoiled.gguf"
    path.write_bytes(spoiled)
    found: list[GgufFile] = []
    if not sentence(lambda: found.append(GgufFile(path))):
        file = found[0]
        assert file.n_bytes == len(spoiled) and file.tensor_types()
        for row in file.table.values():
            assert 0 <= row.offset <= row.offset + row.n_bytes <= len(spoiled)
