"""Templates derived from the tokenizer's own rendering agree with it, as data and as Go template."""

from collections.abc import Callable

import go_template
import pytest
from jinja2 import Environment
from jinja2.exceptions import TemplateError

from aegis_core.chat.template import ChatFormat, Message, derive_format, probe_conversations, verify_format
from aegis_core.failures import UserError

CHATML = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SMOLLM2 = (
    "{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PHI35 = (
    "{% for m in messages %}"
    "{% if m['role'] == 'system' and m['content'] %}{{'<|system|>\n' + m['content'] + '<|end|>\n'}}"
    "{% elif m['role'] == 'user' %}{{'<|user|>\n' + m['content'] + '<|end|>\n'}}"
    "{% elif m['role'] == 'assistant' %}{{'<|assistant|>\n' + m['content'] + '<|end|>\n'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
LLAMA3 = (
    "{% for m in messages %}{% set content = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n'"
    " + m['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + "
    "(first if loop.first else '') + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
    "{% elif m['role'] == 'user' %}{{ '[INST] ' + m['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
COUNTING = "{% for m in messages %}[{{ loop.index }} of {{ messages | length }}] {{ m['content'] }}\n{% endfor %}"

FAMILIES = {
    "chatml": (CHATML, ["<|im_start|>", "<|im_end|>", "<|endoftext|>"], "", "<|im_end|>"),
    "smollm2": (SMOLLM2, ["<|im_start|>", "<|im_end|>", "<|endoftext|>"], "<|im_start|>", "<|im_end|>"),
    "phi-3.5": (PHI35, ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"], "<s>", "<|endoftext|>"),
    "llama 3": (
        LLAMA3,
        ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "<|begin_of_text|>",
        "<|eot_id|>",
    ),
    "gemma": (GEMMA, ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"], "<bos>", "<eos>"),
    "mistral": (MISTRAL, ["<s>", "</s>", "[INST]", "[/INST]"], "<s>", "</s>"),
}
STOPS = {
    "chatml": {"<|im_end|>", "<|im_start|>"},
    "smollm2": {"<|im_end|>", "<|im_start|>"},
    "phi-3.5": {"<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|endoftext|>"},
    "llama 3": {"<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"},
    "gemma": {"<end_of_turn>", "<start_of_turn>", "<eos>"},
    "mistral": {"</s>", "[INST]", "[/INST]"},
}


def renderer(source: str, bos: str, eos: str) -> Callable[[list[Message], bool], str]:
    def refuse(text: str) -> None:
        raise TemplateError(text)

    template = Environment(trim_blocks=True, lstrip_blocks=True).from_string(source)

    def render(messages: list[Message], opening: bool) -> str:
        values = {"messages": messages, "add_generation_prompt": opening, "bos_token": bos, "eos_token": eos}
        return template.render(**values, raise_exception=refuse)

    return render


def derived(family: str) -> tuple[ChatFormat, Callable[[list[Message], bool], str]]:
    source, special, bos, eos = FAMILIES[family]
    render = renderer(source, bos, eos)
    return derive_format(render, special, bos, (eos,)), render


@pytest.mark.parametrize("family", FAMILIES)
def test_the_derived_format_renders_like_the_tokenizer(family: str) -> None:
    format, render = derived(family)
    verify_format(format, render, lambda text: list(text.encode()))
    assert (format.before_system is None) == (family == "mistral")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_go_template_renders_like_the_tokenizer(family: str) -> None:
    format, render = derived(family)
    source = format.go_template(server_adds_bos=False)
    go_template.check(source)
    for messages in probe_conversations(with_system=format.before_system is not None):
        rows = [{"Role": m["role"], "Content": m["content"]} for m in messages]
        assert go_template.render(source, {"Messages": rows}) == render(messages, True)


@pytest.mark.parametrize("family", FAMILIES)
def test_stops_are_the_markers_of_the_template(family: str) -> None:
    assert set(derived(family)[0].stops) == STOPS[family]


def test_a_leading_token_that_the_server_adds_is_left_out() -> None:
    format, _ = derived("llama 3")
    assert "<|begin_of_text|>" in format.go_template(server_adds_bos=False)
    assert "<|begin_of_text|>" not in format.go_template(server_adds_bos=True)


def test_a_template_of_another_pattern_is_refused_with_both_renderings() -> None:
    render = renderer(COUNTING, "", "")
    format = derive_format(render, [], "", ())
    with pytest.raises(UserError) as refusal:
        verify_format(format, render, lambda text: list(text.encode()))
    assert "[1 of 3] 時間" in refusal.value.reason and "[1 of 1] 時間" in refusal.value.reason


def test_a_system_message_that_has_no_place_is_refused() -> None:
    format, _ = derived("mistral")
    with pytest.raises(UserError, match="no place for a system message"):
        format.render([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}])
