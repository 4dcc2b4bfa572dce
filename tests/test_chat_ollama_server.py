"""The stand-in refuses what the real server refuses, in its words: else the other tests would prove nothing."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import httpx
import numpy as np
import pytest
from fake_ollama import FakeOllama

ASK = [{"role": "user", "content": "Hi"}]
PLAIN = "{{ range .Messages }}{{ .Content }}{{ end }}"
JINJA = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}{% if tools %}{{ tools }}{% endif %}"


@pytest.fixture
def server() -> Iterator[FakeOllama]:
    with FakeOllama() as fake:
        yield fake


def gguf_bytes(folder: Path, jinja: str = "", quantised: bool = False) -> bytes:
    path = folder / "file.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    writer.add_float32("llama.rope.freq_base", 1e4)
    if jinja:
        writer.add_chat_template(jinja)
    values = np.zeros((2, 32), dtype=np.float32)
    if quantised:
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor("token_embd.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
    else:
        writer.add_tensor("token_embd.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def put(server: FakeOllama, data: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert httpx.post(f"{server.address}/api/blobs/{digest}", content=data).status_code == 201
    return digest


def create(server: FakeOllama, data: bytes, **more: Any) -> httpx.Response:
    row = {"model": "m", "files": {"m.gguf": put(server, data)}, **more}
    return httpx.post(f"{server.address}/api/create", json=row)


def test_blobs_are_kept_under_their_digest_alone(server: FakeOllama) -> None:
    good = put(server, b"some bytes")
    blobs = f"{server.address}/api/blobs"
    assert httpx.head(f"{blobs}/{good}").status_code == 200
    assert httpx.post(f"{blobs}/{good}", content=b"some bytes").status_code == 200
    other = f"sha256:{'0' * 64}"
    assert httpx.head(f"{blobs}/{other}").status_code == 404
    refused = httpx.post(f"{blobs}/{other}", content=b"some bytes")
    assert refused.status_code == 400
    assert refused.json()["error"] == f'digest mismatch, expected "{other}", got "{good}"'
    assert httpx.post(f"{blobs}/sha256:abc", content=b"").json()["error"] == "invalid digest format"


def test_a_model_is_made_in_the_steps_that_the_real_one_tells(server: FakeOllama, tmp_path: Path) -> None:
    data = gguf_bytes(tmp_path)
    statuses = [line for line in create(server, data).text.split("\n") if line]
    assert [word in line for word, line in zip(("parsing", "verifying", "creating new"), statuses, strict=False)]
    assert '"success"' in statuses[-1]
    assert (
        "using existing layer"
        in httpx.post(
            f"{server.address}/api/create", json={"model": "n", "files": {"m.gguf": next(iter(server.blobs))}}
        ).text
    )
    whole = {"model": "o", "files": {"m.gguf": next(iter(server.blobs))}, "stream": False}
    assert httpx.post(f"{server.address}/api/create", json=whole).json() == {"status": "success"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"model": "?"}, "invalid model name"),
        ({"files": {}}, "neither 'from' or 'files'"),
        ({"files": {"/etc/m.gguf": "sha256:0"}}, "file path must be relative"),
        ({"files": {"../m.gguf": "sha256:0"}}, "file path must be relative"),
        ({"files": {"m.gguf": f"sha256:{'0' * 64}"}}, "not found"),
        ({"template": JINJA}, "template error"),
        ({"template": "{{ if }}"}, "template error"),
        ({"temperature": 1}, "unknown fields"),
    ],
)
def test_requests_that_the_real_one_refuses(
    server: FakeOllama, tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    answer = create(server, gguf_bytes(tmp_path), **more)
    assert answer.status_code == 400 and words in answer.json()["error"]
    assert server.models == {}


def test_files_that_the_real_one_refuses(server: FakeOllama, tmp_path: Path) -> None:
    data = gguf_bytes(tmp_path)
    quantised = gguf_bytes(tmp_path, quantised=True)
    for broken, more, status, words in [
        (b"not a model", {}, 400, "supplied file was not in GGUF format"),
        (data[:60], {}, 500, "unexpected EOF"),
        (data[:-8], {}, 500, "exceeds file size"),
        (data, {"quantize": "Q5_K_M"}, 500, "unsupported quantization type Q5_K_M - supported types are F32, F16"),
        (quantised, {"quantize": "q4_K_M"}, 500, "only supported for F16"),
    ]:
        digest = f"sha256:{hashlib.sha256(broken).hexdigest()}"
        server.blobs[digest] = broken
        row = {"model": "m", "files": {"m.gguf": digest}, **more}
        first, last = httpx.post(f"{server.address}/api/create", json=row).text.strip().split("\n")
        assert "parsing GGUF" in first and words in json.loads(last)["error"], "a line of its own, under 200"
        whole = httpx.post(f"{server.address}/api/create", json=row | {"stream": False})
        assert whole.status_code == status and words in whole.json()["error"]
    assert server.models == {}


def test_quantising_tells_how_far_it_is(server: FakeOllama, tmp_path: Path) -> None:
    rows = [
        json.loads(line) for line in create(server, gguf_bytes(tmp_path), quantize="q4_K_M").text.split("\n") if line
    ]
    told = [row for row in rows if row["status"] == "quantizing F16 model to Q4_K_M"]
    assert [(row["completed"], row["total"]) for row in told] == [(1, 2), (2, 2)] and rows[-1]["status"] == "success"


def test_without_a_template_the_files_own_serves_and_chatml_where_it_has_none(
    server: FakeOllama, tmp_path: Path
) -> None:
    assert "autodetected" not in create(server, gguf_bytes(tmp_path)).text
    assert server.rendered("m", ASK) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    create(server, gguf_bytes(tmp_path, jinja=JINJA), model="n")
    assert server.rendered("n", ASK) == "[user]Hi"
    known = create(server, gguf_bytes(tmp_path, jinja="{{ '<|im_start|>' }}"), model="o")
    assert "using autodetected template chatml" in known.text
    assert server.rendered("o", ASK) == server.rendered("m", ASK)


def test_the_files_own_jinja_wins_where_it_knows_of_tools_and_the_sent_template_does_not(
    server: FakeOllama, tmp_path: Path
) -> None:
    data = gguf_bytes(tmp_path, jinja=JINJA)
    create(server, data, template="{{ range .Messages }}{{ .Content }}{{ end }}")
    assert httpx.post(f"{server.address}/api/show", json={"model": "m"}).json()["template"] == JINJA
    assert server.rendered("m", [{"role": "user", "content": "Hi"}]) == "[user]Hi"
    create(server, gguf_bytes(tmp_path, jinja=JINJA.replace("tools", "others")), template="{{ .System }}")
    assert httpx.post(f"{server.address}/api/show", json={"model": "m"}).json()["template"] == "{{ .System }}"


def test_a_file_goes_with_the_last_model_that_was_made_of_it(server: FakeOllama, tmp_path: Path) -> None:
    data = gguf_bytes(tmp_path)
    create(server, data)
    row = {"model": "n", "files": {"m.gguf": next(iter(server.blobs))}}
    httpx.post(f"{server.address}/api/create", json=row)
    for name, n_blobs in (("m", 1), ("n", 0)):
        httpx.request("DELETE", f"{server.address}/api/delete", json={"model": name})
        assert len(server.blobs) == n_blobs


def test_a_model_that_is_not_there_is_not_found(server: FakeOllama) -> None:
    for method, path in [("POST", "chat"), ("POST", "show"), ("DELETE", "delete"), ("POST", "generate")]:
        answer = httpx.request(method, f"{server.address}/api/{path}", json={"model": "nope"})
        assert (answer.status_code, answer.json()["error"]) == (404, "model 'nope' not found")


def test_an_option_of_a_wrong_type_fails_in_the_chat_and_one_unknown_is_passed_over(
    server: FakeOllama, tmp_path: Path
) -> None:
    create(server, gguf_bytes(tmp_path), template="{{ range .Messages }}{{ .Content }}{{ end }}")
    row: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    wrong = httpx.post(f"{server.address}/api/chat", json=row | {"options": {"temperature": "hot"}})
    assert wrong.status_code == 500 and "must be of type float32" in wrong.json()["error"]
    assert httpx.post(f"{server.address}/api/chat", json=row | {"options": {"nonsense": 1}}).status_code == 200


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("top_k", 0.5, "integer"), ("stop", "<|end|>", "array"), ("repeat_penalty", "1", "float32")],
)
def test_a_parameter_of_a_wrong_type_passes_create_and_fails_in_the_chat(
    server: FakeOllama, tmp_path: Path, name: str, value: object, words: str
) -> None:
    made = create(server, gguf_bytes(tmp_path), template=PLAIN, parameters={name: value})
    assert made.status_code == 200 and '"success"' in made.text
    answer = httpx.post(f"{server.address}/api/chat", json={"model": "m", "messages": ASK})
    assert (answer.status_code, answer.json()["error"]) == (500, f'option "{name}" must be of type {words}')


def test_a_file_that_cannot_be_loaded_passes_create_and_fails_in_the_chat(server: FakeOllama, tmp_path: Path) -> None:
    data = gguf_bytes(tmp_path).replace(b"token_embd.weight", b"token_embd.widths")
    assert '"success"' in create(server, data, template=PLAIN).text
    answer = httpx.post(f"{server.address}/api/chat", json={"model": "m", "messages": ASK})
    assert answer.status_code == 500 and "process has terminated" in answer.json()["error"]
    assert "missing tensor 'token_embd.weight'" in answer.json()["error"]


def test_a_prompt_that_is_too_long_is_cut_off_in_silence_unless_that_is_forbidden(
    server: FakeOllama, tmp_path: Path
) -> None:
    server.count = len
    create(server, gguf_bytes(tmp_path), template=PLAIN, parameters={"num_ctx": 8})
    row = {"model": "m", "messages": [{"role": "user", "content": "0123456789"}], "stream": False}
    assert httpx.post(f"{server.address}/api/chat", json=row).json()["prompt_eval_count"] == 7
    refused = httpx.post(f"{server.address}/api/chat", json=row | {"truncate": False})
    assert refused.status_code == 400 and "exceeds the available context size (8 tokens)" in refused.json()["error"]
    assert httpx.post(f"{server.address}/api/chat", json=row | {"options": {"num_ctx": 11}}).json()["done"]


def test_the_lines_of_a_chat_carry_what_the_real_ones_carry(server: FakeOllama, tmp_path: Path) -> None:
    create(server, gguf_bytes(tmp_path), template=PLAIN)

    def lines(**more: Any) -> list[dict[str, Any]]:
        answer = httpx.post(f"{server.address}/api/chat", json={"model": "m", "messages": ASK, **more})
        return [json.loads(line) for line in answer.text.split("\n") if line]

    first, second, last = lines()
    assert first.keys() == second.keys() == {"model", "created_at", "message", "done"} and not first["done"]
    durations = {"total_duration", "load_duration", "prompt_eval_duration", "eval_duration"}
    assert last.keys() == first.keys() | {"done_reason", "prompt_eval_count", "eval_count"} | durations
    assert (last["done"], last["done_reason"], last["message"]["content"]) == (True, "stop", "")
    assert lines(options={"num_predict": 1})[-1]["done_reason"] == "length"
    assert lines(messages=[])[-1]["done_reason"] == "load" and server.loaded == {"m:latest"}
    (whole,) = lines(stream=False)
    assert whole["message"]["content"] == "It depends." and whole["done"]
    gone = httpx.post(f"{server.address}/api/generate", json={"model": "m", "keep_alive": 0})
    assert gone.json()["done_reason"] == "unload" and server.loaded == set()


def test_other_paths_methods_and_places_are_refused(server: FakeOllama) -> None:
    assert httpx.get(f"{server.address}/").text == "Ollama is running"
    assert httpx.get(f"{server.address}/api/nothing").status_code == 404
    assert httpx.get(f"{server.address}/api/chat").status_code == 405
    for header in ({"Host": "example.org"}, {"Origin": "http://example.org"}):
        answer = httpx.get(f"{server.address}/api/version", headers=header)
        assert (answer.status_code, answer.text) == (403, "")
    assert httpx.post(f"{server.address}/api/show", content=b"{").status_code == 400
