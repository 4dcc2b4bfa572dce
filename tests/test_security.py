"""What comes from elsewhere is read and never obeyed, and what is secret stays so."""

import ast
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pico
import psutil
import pytest
import transformers.trainer
from engine_bench import engine_bench
from finished_run import finished_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_parts import written

from aegis_core.addresses import shown_address
from aegis_core.cancel import CancelToken
from aegis_core.chat import ollama_state
from aegis_core.chat.ollama import OllamaClient
from aegis_core.chat.ollama_address import address
from aegis_core.chat.template_trial import under_watch
from aegis_core.engine.uv import Uv
from aegis_core.failures import UserError
from aegis_core.fusion.adapter import _HARMLESS
from aegis_core.models import hub, hub_errors
from aegis_core.models.usable import require_usable
from aegis_core.models.weights import INDEX, weight_files
from aegis_core.plan import Plan, changed
from aegis_core.report import html
from aegis_core.report.document import (
    Beside,
    Code,
    Document,
    Figure,
    Figures,
    Fold,
    Mark,
    Missing,
    Mono,
    Said,
    Section,
    Table,
    Text,
    Words,
)
from aegis_core.run_directory import RunDirectory

ROOT = Path(__file__).resolve().parent.parent
CODE = [*sorted(path for top in ("aegis_core", "aegis_gui") for path in (ROOT / top).rglob("*.py")), ROOT / "start.py"]


# Nothing foreign is run

FORBIDDEN_MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.startfile", "pty.spawn"}
FORBIDDEN_ENDINGS = ("extractall", "unpack_archive", "read_pickle", "Unpickler")


def dangers(tree: ast.AST) -> list[str]:
    """Ways in which this code could run what it was given to read."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
            found.append(str(node.module))
        elif isinstance(node, ast.Call):
            found += _dangers_of_call(node)
    return found


def _dangers_of_call(call: ast.Call) -> list[str]:
    name = ast.unparse(call.func)
    told = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    found = [name] if name in FORBIDDEN_CALLS or name.endswith(FORBIDDEN_ENDINGS) else []
    if name.endswith("torch.load") and not _is(told.get("weights_only"), True):
        found.append(name)
    for word in ("shell", "allow_pickle", "trust_remote_code"):
        if word in told and _is(told[word], True):
            found.append(f"{word}=True")
    return found


def _is(node: ast.AST | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_unpickles_evaluates_or_hands_text_to_a_shell(path: Path) -> None:
    assert dangers(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from torch import load\nimport joblib",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "archive.extractall(folder)",
    ],
)
def test_the_look_at_the_code_sees_each_of_them(code: str) -> None:
    assert dangers(ast.parse(code))


def test_the_trainer_of_transformers_reads_checkpoints_as_weights_alone() -> None:
    """It loads optimiser, scheduler and random states of a checkpoint whose hashes were compared before."""
    tree = ast.parse(Path(transformers.trainer.__file__).read_text(encoding="utf-8"))
    loads = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"]
    assert len(loads) >= 3
    assert not [ast.unparse(call) for call in loads if _dangers_of_call(call)]


def test_an_adapter_names_no_module_to_be_imported() -> None:
    """peft imports what megatron_core names as soon as megatron_config says anything."""
    assert "megatron_config" not in _HARMLESS


# Names of files

DEVICE_NAMES = ["CON", "nul", "Aux", "PRN", "COM1", "lpt9", "NUL ", "con.tar", "COM¹", "LPT³", "CONIN$", "conout$"]
EVIL_NAMES = [
    *("../secret", "..\\secret", "/etc/passwd", "C:\\x", "C:x", "\\\\host\\share\\x", "//host/share/x", "a/../../x"),
    *("model:stream", ".", "..", "a\0b", "a\nb", "\u202ex", *DEVICE_NAMES),
]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=st.sampled_from(EVIL_NAMES) | st.text(max_size=20))
def test_an_index_never_leads_out_of_its_folder_nor_to_a_device_or_stream(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    (tmp_path / "secret.safetensors").write_bytes(b"")
    (folder / INDEX).write_text(json.dumps({"weight_map": {"w": f"{name}.safetensors"}}), encoding="utf-8")
    try:
        found = weight_files(folder)
    except UserError as refused:
        assert refused.reason.isprintable() or name.isprintable()
        return
    assert [path.parent for path in found] == [folder]


@pytest.mark.parametrize("name", DEVICE_NAMES)
def test_a_weight_file_that_is_a_device_on_windows_is_refused_although_it_is_there(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.safetensors").write_bytes(b"")
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"w": f"{name}.safetensors"}}), encoding="utf-8")
    with pytest.raises(UserError, match="not a weight file in its own folder"):
        weight_files(tmp_path)


@pytest.mark.parametrize("name", [f"{evil}.json" for evil in EVIL_NAMES if evil not in (".", "..")])
def test_no_file_of_a_repository_on_the_hub_takes_such_a_name(name: str) -> None:
    assert not hub._is_ours(name)
    assert hub._is_ours("tokenizer.json") and hub._is_ours("日本語.json")


# Chat templates

GREEDY = {
    "time": "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = a * b %}{% endfor %}{% endfor %}",
    "memory": "{% set n = namespace(x='0123456789') %}{% for i in range(40) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
}


@pytest.mark.parametrize("kind", GREEDY)
def test_a_greedy_chat_template_is_refused_and_not_waited_for(pico_model: Path, tmp_path: Path, kind: str) -> None:
    folder = copied_with_template(pico_model, tmp_path, GREEDY[kind])
    begun = time.monotonic()
    with pytest.raises(UserError, match="more time or memory"):
        require_usable(folder)
    assert time.monotonic() - begun < 60
    assert sys.gettrace() is None or "coverage" in str(sys.gettrace())


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{% set x = messages.append(1) %}",
    ],
)
def test_a_chat_template_reaches_nothing_beyond_its_messages(pico_model: Path, tmp_path: Path, template: str) -> None:
    from aegis_core.chat.prompt import ChatPrompts

    prompts = ChatPrompts(copied_with_template(pico_model, tmp_path, template))
    with pytest.raises(UserError, match="refuses the conversation"):
        prompts.text([{"role": "user", "content": "?"}])


def test_a_usual_template_is_not_watched_after_its_trial(pico_model: Path) -> None:
    require_usable(pico_model)
    seen: list[str] = []
    under_watch(lambda: seen.append("rendered"))
    assert seen == ["rendered"]


def copied_with_template(model: Path, tmp_path: Path, template: str) -> Path:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


# Secrets

TOKEN, PROXY_WORD, HOST_WORD = "hf_CANARYtoken0123456789abcdef", "canaryPROXYword", "canaryHOSTword"
SECRETS = (TOKEN, PROXY_WORD, HOST_WORD)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://user:pw@proxy:8080", "http://proxy:8080"),
        ("http://user:p@w@proxy:8080/x@y", "http://proxy:8080/x@y"),
        ("user:pw@proxy:8080", "proxy:8080"),
        ("http://proxy:8080", "http://proxy:8080"),
        ("127.0.0.1:11434", "127.0.0.1:11434"),
    ],
)
def test_an_address_is_shown_without_its_password(address: str, shown: str) -> None:
    assert shown_address(address) == shown


INDEX_WORD = "s3cr3t-index-w0rd"


@pytest.mark.parametrize("known", [True, False], ids=["known", "refused"])
def test_the_password_of_an_index_makes_the_engine_and_is_in_no_file_word_or_command_line(
    tmp_path: Path, known: bool
) -> None:
    lines: list[str] = []
    with engine_bench(tmp_path) as bench, command_lines_of_children(lines):
        bench.index.login = f"me:{INDEX_WORD if known else 'another'}"
        bench.index.address = bench.index.address.replace("//", f"//me:{INDEX_WORD}@")
        said = ""
        try:
            bench.make()
        except UserError as error:
            said = f"{error.reason} {error.advice} {error.values}"
        assert (bench.place.marker() is not None) is known and bool(said) is not known
        assert INDEX_WORD not in said and INDEX_WORD not in str(bench.heard)
        written = [file for file in bench.place.folder.rglob("*") if file.is_file()]
        assert bench.place.log in written
        assert [file for file in written if INDEX_WORD.encode() in file.read_bytes()] == []
    assert any("compile" in line for line in lines), "uv was seen at work"
    assert not any(INDEX_WORD in line for line in lines)


def test_what_a_fake_uv_says_of_an_address_is_written_and_told_without_its_password(tmp_path: Path) -> None:
    """A Python in uv's place, since uv itself leaves passwords out where it thinks of it."""
    said = f"error: nothing at http://me:{INDEX_WORD}@127.0.0.1:9/simple/"
    uv = Uv(Path(sys.executable), tmp_path, tmp_path / "install.log", CancelToken())
    with pytest.raises(UserError, match=r"nothing at http://127\.0\.0\.1:9/simple/"):
        uv.run("-c", "import sys; sys.exit(sys.argv[1])", said)
    written = (tmp_path / "install.log").read_text(encoding="utf-8")
    assert written.count("http://127.0.0.1:9/simple/") == 2 and INDEX_WORD not in written


@contextlib.contextmanager
def command_lines_of_children(lines: list[str]) -> Iterator[None]:
    """Every command line of a program that this process starts, as anybody on this machine could read it."""
    real = subprocess.Popen.__init__

    def noting(self: object, args: object, *rest: object, **more: object) -> None:
        lines.append(str(args))
        real(self, args, *rest, **more)  # type: ignore[call-overload]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", noting)
        yield


def test_no_sentence_shows_the_password_of_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setenv("OLLAMA_HOST", f"http://user:{HOST_WORD}@127.0.0.1:9")
    with pytest.raises(UserError) as refused:
        address()
    said += [refused.value.reason, *refused.value.values.values()]
    monkeypatch.setenv("OLLAMA_HOST", "http://box.invalid:9")
    for proxy in (
        f"http://user:{PROXY_WORD}@127.0.0.1:9",
        f"user:{PROXY_WORD}@127.0.0.1:9",
        f"http://u:a@{PROXY_WORD}@h:9",
    ):
        monkeypatch.setenv("http_proxy", proxy)
        problem = ollama_state.look().problem
        assert problem is not None
        said += [problem.reason, problem.advice, *problem.values.values()]
    monkeypatch.setattr(hub_errors.constants, "ENDPOINT", f"https://user:{HOST_WORD}@hub.invalid")
    gated = hub_errors.GatedRepoError.__new__(hub_errors.GatedRepoError)
    said += [hub_errors.refusal(gated, "a/b", "main").advice]
    assert not [sentence for sentence in said if any(secret in sentence for secret in SECRETS)]
    assert "hub.invalid" in said[-1]


class Watch(threading.Thread):
    """Looks at a process and its descendants until it ends: their command lines, and where they listen."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.commands: set[str] = set()
        self.listening: set[tuple[str, int]] = set()
        self._root, self._over = psutil.Process(pid), threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.05):
            with contextlib.suppress(psutil.Error):
                for process in [self._root, *self._root.children(recursive=True)]:
                    self._look(process)

    def _look(self, process: psutil.Process) -> None:
        with contextlib.suppress(psutil.Error):
            self.commands.add(" ".join(process.cmdline()))
            found = process.net_connections("inet")
            self.listening |= {tuple(c.laddr) for c in found if c.status == psutil.CONN_LISTEN or not c.raddr}

    def end(self) -> None:
        self._over.set()
        self.join()


@pytest.fixture(scope="module")
def watched_ritual(pico_model: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A whole ritual with secrets in its surroundings, every word of it kept."""
    place = tmp_path_factory.mktemp("watched 監視")
    settings = pico.settings(pico_model, pico.write_questions(place / "質問.jsonl"))
    run = RunDirectory.create(place / "run", changed(Plan(), {**settings, "chat.backend": "auto"}))
    surroundings = {
        **os.environ,
        "HF_TOKEN": TOKEN,
        "http_proxy": f"http://user:{PROXY_WORD}@127.0.0.1:9",
        "https_proxy": f"http://user:{PROXY_WORD}@127.0.0.1:9",
        "OLLAMA_HOST": f"http://user:{HOST_WORD}@127.0.0.1:9",
        "AEGIS_CACHE": str(place / "cache"),
        "HF_HOME": str(place / "hub"),
        "PYTHONPATH": str(ROOT),
    }
    words: list[bytes] = []
    with (place / "stderr").open("wb") as stderr:
        command = [sys.executable, "-m", "aegis_core", "run", str(run.path), "--events"]
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=surroundings
        )
    watch = Watch(child.pid)
    watch.start()
    assert child.stdout is not None and child.stdin is not None
    words += list(child.stdout)
    code = child.wait()
    child.stdin.close()
    child.stdout.close()
    watch.end()
    (place / "stdout").write_bytes(b"".join(words))
    return SimpleNamespace(place=place, run=run, code=code, watch=watch, n_events=len(words))


@pytest.mark.timeout(600)
def test_no_secret_of_the_surroundings_is_in_any_file_word_or_command_line_of_a_ritual(
    watched_ritual: SimpleNamespace,
) -> None:
    assert watched_ritual.code == 0 and watched_ritual.n_events > 50
    files = [path for path in watched_ritual.place.rglob("*") if path.is_file()]
    assert {"report.html", "events.jsonl", "plan.json", "stderr", "stdout", "model-card.md"} <= {p.name for p in files}
    leaks = [path for path in files for secret in SECRETS if secret.encode() in path.read_bytes()]
    assert leaks == []
    assert watched_ritual.watch.commands, "the process was seen"
    assert not [line for line in watched_ritual.watch.commands if any(secret in line for secret in SECRETS)]


@pytest.mark.timeout(600)
def test_a_ritual_listens_nowhere_but_on_the_loopback_port_behind_the_key(watched_ritual: SimpleNamespace) -> None:
    """The only one that does is llama.cpp's own server (gguf_export/llama.py), which answers nobody without the key."""
    found = watched_ritual.watch.listening
    assert {host for host, _ in found} <= {"127.0.0.1"}, found
    assert found, "llama.cpp was seen listening: the look is able to see"


# The report

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"><svg onload=alert(1)>",
    "' onmouseover='alert(1)",
    "[x](javascript:alert(1))",
    "javascript:alert(1)",
    "</title></style></pre></code><iframe src=//e.vil>",
    "<!--", "]]>", "&lt;script&gt;", "\0\u202e\ufeff",
]  # fmt: skip
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "a", "div", "header", "p", "h1", "h2", "nav", "ol", "li"),
    *("main", "section", "pre", "code", "dl", "dt", "dd", "details", "summary", "bdi", "span", "table", "thead"),
    *("tbody", "tr", "th", "td", "figure", "figcaption", "blockquote", "caption"),
}


class Parsed(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attributes]


def assert_harmless(page: str) -> None:
    parsed = Parsed(page)
    assert parsed.tags <= TAGS, parsed.tags - TAGS
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]
    assert all(value.startswith("#") for name, value in parsed.attributes if name in ("href", "src", "action"))
    policy = "default-src 'none'"
    assert any(
        name == "content" and value.startswith(policy) and "script" not in value for name, value in parsed.attributes
    )


hostile_text = st.lists(st.sampled_from(HOSTILE) | st.text(max_size=8), min_size=1, max_size=3).map("".join)


@settings(max_examples=150, deadline=None)
@given(words=st.lists(hostile_text, min_size=12, max_size=12))
def test_no_text_in_any_place_of_the_report_becomes_more_than_text(words: list[str]) -> None:
    title, kicker, subtitle, contents, section, anchor, text, missing, code, fold, label, value = words
    verdict = Mark("pass", label)
    blocks = (
        Text(text), Missing(missing), Code((code, code)), Fold(fold, (verdict,), (Text(text),)),
        Figures((Figure(label, value, text),)), Beside((Said(label, value, verdict, text),)),
        Table((label, value), ((Mono(text), verdict), (Words(code), fold)), fold_title=fold, caption=missing),
    )  # fmt: skip
    sections = (Section(section, blocks, anchor),)
    document = Document(
        language="en", title=title, kicker=kicker, subtitle=subtitle, contents=contents, lead=(Text(text),),
        sections=sections,
    )  # fmt: skip
    assert_harmless(html.render(document, {}))


def test_hostile_names_of_run_model_data_and_files_stay_names_in_the_report(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run'><img src=x onerror=alert(1)>")
    evil = "".join(HOSTILE[:6])
    run.write_plan(changed(run.plan(), {"model.source": evil, "data.source": evil, "chat.model_name": "x"}))
    page, _ = written(run)
    assert_harmless(page)


# Ollama


class Redirecting(ThreadingHTTPServer):
    target = ""
    asked: list[str]


@pytest.fixture
def two_servers() -> Iterator[tuple[Redirecting, Redirecting]]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server = self.server
            assert isinstance(server, Redirecting)
            server.asked.append(self.path)
            self.send_response(307 if server.target else 200)
            if server.target:
                self.send_header("Location", server.target + self.path)
            self.end_headers()
            if not server.target:
                self.wfile.write(b'{"version": "0.12.3"}')

        do_POST = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    servers = [Redirecting(("127.0.0.1", 0), Answer) for _ in range(2)]
    for server in servers:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].target = f"http://127.0.0.1:{servers[1].server_port}"
    yield servers[0], servers[1]
    for server in servers:
        server.shutdown()
        server.server_close()


def test_ollama_is_asked_at_the_user_s_address_alone_wherever_that_points(
    two_servers: tuple[Redirecting, Redirecting], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = two_servers
    monkeypatch.setenv("OLLAMA_HOST", f"0.0.0.0:{first.server_port}")
    assert address() == f"http://127.0.0.1:{first.server_port}", "a listening address is no destination"
    assert not ollama_state.look().usable
    with contextlib.suppress(UserError), OllamaClient() as client:
        client.unload("model")
    assert first.asked and other.asked == []
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{other.server_port}")
    assert ollama_state.look().usable, "the other one would have answered"
