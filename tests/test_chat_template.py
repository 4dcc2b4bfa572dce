"""Published chat templates are learnt from the tokenizer's renderings, agree with it token by token, or are refused."""

from datetime import datetime
from pathlib import Path

import pytest
from chat_families import CHAT, DAY, FAMILIES, TEMPLATES, prompts_for, prompts_of, template
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_core.chat.prompt import ChatPrompts
from aegis_core.chat.template import ChatFormat, Message
from aegis_core.chat.template_contents import ALL_CLEANINGS, conversation
from aegis_core.chat.template_derive import talk
from aegis_core.chat.template_verify import probe_conversations
from aegis_core.failures import UserError
from aegis_core.run_directory import write_json

COUNTING = "{% for m in messages %}[{{ loop.index }} of {{ messages | length }}] {{ m['content'] }}\n{% endfor %}"
SHOUTING = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | upper }}<|im_end|>\n{% endfor %}"
NO_MARKERS = (
    "{% for m in messages %}{{ '### ' + m['role'] + ':\n' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant:\n' }}{% endif %}"
)
DEAF = "{% for m in messages if m['role'] != 'system' %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
NAMES = sorted(FAMILIES)
TELL = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatPrompts]:
    root = tmp_path_factory.mktemp("templates 雛形")
    return {name: prompts_of(name, root / name) for name in FAMILIES}


def in_chatml(source: str, folder: Path) -> ChatPrompts:
    """Another template with Qwen's tokens."""
    return prompts_for(source, FAMILIES["qwen2-instruct"], folder)


def test_every_published_template_has_its_facts() -> None:
    assert sorted(path.stem for path in TEMPLATES.glob("*.jinja")) == NAMES


def test_phi_is_the_published_one() -> None:
    reference = Path(__file__).resolve().parents[2] / "shared" / "reference" / "phi-3.5-mini" / "chat_template.jinja"
    if not reference.is_file():
        pytest.skip("the reference folder is not here")
    assert template("phi-3.5-mini-instruct") == reference.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_the_published_template_renders_the_documented_prompt(families: dict[str, ChatPrompts], name: str) -> None:
    expected = FAMILIES[name].rendered
    if expected is None:
        with pytest.raises(UserError, match="no place for a system message"):
            families[name].prompt(CHAT)
    else:
        assert families[name].prompt(CHAT) == expected == families[name].format.render(CHAT)


@pytest.mark.parametrize("name", NAMES)
def test_the_derived_format_yields_the_tokens_of_the_tokenizer(families: dict[str, ChatPrompts], name: str) -> None:
    prompts = families[name]
    talks = probe_conversations(with_system=prompts.format.system is not None)
    assert {sum(row["role"] == "user" for row in rows) for rows in talks} == {1, 2, 3, 4, 5, 6}
    for messages in talks:
        assert prompts.encode(prompts.format.render(messages)) == prompts.token_ids(messages)


def test_the_comparison_set_is_as_asked() -> None:
    """With and without system text, one to six turns, Japanese, empty contents of every role."""
    talks = probe_conversations(with_system=True)
    turns = {with_system: set() for with_system in (True, False)}  # type: dict[bool, set[int]]
    for rows in talks:
        turns[rows[0]["role"] == "system"].add(sum(row["role"] == "user" for row in rows))
    assert turns == {True: {1, 2, 3, 4, 5, 6}, False: {1, 2, 3, 4, 5, 6}}
    for role in ("system", "user", "assistant"):
        contents = {row["content"] for rows in talks for row in rows if row["role"] == role}
        assert "" in contents and any("\u3040" < letter < "\u30ff" for text in contents for letter in text), role
    assert not any(row["role"] == "system" for rows in probe_conversations(with_system=False) for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_stops_are_the_markers_of_the_template(families: dict[str, ChatPrompts], name: str) -> None:
    assert set(families[name].stops) == FAMILIES[name].stops


contents = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
        st.sampled_from(["<think>", "</think>", "\n", " ", "時間", "{{", "}}", '"', "\\", "<|im_end|>", "[INST]", ""]),
    ),
    max_size=5,
).map("".join)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_contents_give_the_same_tokens(families: dict[str, ChatPrompts], name: str, data: st.DataObject) -> None:
    prompts = families[name]
    messages = talk(*data.draw(st.lists(contents, min_size=1, max_size=7).filter(lambda texts: len(texts) % 2)))
    if prompts.format.system is not None and data.draw(st.booleans()):
        # SmolLM3 looks for its own switches there, see below.
        told = data.draw(contents.filter(lambda text: "/think" not in text))
        messages = [{"role": "system", "content": told}, *messages]
    sent = prompts.for_server(messages)
    assert prompts.encode(prompts.format.render(sent)) == prompts.token_ids(messages)
    assert prompts.for_server(sent) == sent


def test_a_system_text_before_the_last_question_moves_with_the_conversation(families: dict[str, ChatPrompts]) -> None:
    mistral = families["mistral-7b-instruct-v0.3"]
    assert mistral.format.system is not None and mistral.format.system.late is not None
    assert mistral.format.render(TELL) == "<s>[INST] Be brief.\n\nWhy?[/INST]" == mistral.prompt(TELL)


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("qwen2.5-instruct", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
        ("smollm2-instruct", "You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
        ("smollm3", "You are a helpful AI assistant named SmolLM, trained by Hugging Face."),
        ("mistral-small-3.1-instruct", "You are Mistral Small 3"),
    ],
)
def test_a_default_system_text_stands_only_where_none_is_given(
    families: dict[str, ChatPrompts], name: str, default: str
) -> None:
    assert default in families[name].format.render(talk("Why?"))
    assert default not in families[name].format.render(TELL)


def test_an_empty_system_text_is_what_the_template_makes_of_it(families: dict[str, ChatPrompts]) -> None:
    empty = [{"role": "system", "content": ""}, *talk("Why?")]
    assert families["phi-3.5-mini-instruct"].for_server(empty) == talk("Why?")
    assert families["qwen2.5-instruct"].for_server(empty) == empty
    assert "You are Qwen" not in families["qwen2.5-instruct"].prompt(empty)


def test_thoughts_of_earlier_answers_are_not_sent_where_the_template_drops_them(
    families: dict[str, ChatPrompts],
) -> None:
    messages = talk("Why?", "<think>\nHm.\n</think>\n\nBecause.", "Really?")
    assert families["qwen3"].for_server(messages) == talk("Why?", "Because.", "Really?")
    assert families["qwen2.5-instruct"].for_server(messages) == messages


def test_blanks_are_cut_off_only_where_the_template_does_so(families: dict[str, ChatPrompts]) -> None:
    messages = talk(" Why? ", " Because. ", " Really?\n")
    assert families["llama-3-instruct"].for_server(messages) == talk("Why?", "Because.", "Really?")
    assert families["mistral-7b-instruct-v0.3"].for_server(messages) == talk(" Why? ", "Because.", " Really?\n")
    assert families["phi-3.5-mini-instruct"].for_server(messages) == messages


@pytest.mark.parametrize("text", ["", " \n a \n ", "<think>b</think>\n\n c ", "</think></think> "])
def test_cleaning_twice_changes_no_more(text: str) -> None:
    for cleaning in ALL_CLEANINGS:
        assert cleaning(cleaning(text)) == cleaning(text)


def test_the_date_is_that_of_the_day_on_which_the_prompts_were_opened(tmp_path: Path) -> None:
    later = datetime(2027, 1, 2)
    for name, then, now in [
        ("llama-3.2-instruct", "Today Date: 24 Nov 2026\n", "Today Date: 02 Jan 2027\n"),
        ("mistral-small-3.1-instruct", "The current date is 2026-11-24.", "The current date is 2027-01-02."),
    ]:
        before, after = prompts_of(name, tmp_path / name), prompts_of(name, tmp_path / name, later)
        assert before.states_date and after.states_date
        assert then in before.prompt(talk("Why?")) and then in before.format.go_template(True).replace("\\n", "\n")
        assert now in after.prompt(talk("Why?"))
    assert prompts_of(name, tmp_path / name).prompt(TELL) == before.prompt(TELL)


def test_a_date_that_the_publisher_fixed_is_no_date_of_today(families: dict[str, ChatPrompts]) -> None:
    assert "26 Jul 2024" in families["llama-3.1-instruct"].prompt(TELL)
    stating = {name for name in NAMES if families[name].states_date}
    assert stating == {"llama-3.2-instruct", "mistral-small-3.1-instruct"}


def test_a_date_in_a_form_that_cannot_be_foreseen_counts_as_stated(tmp_path: Path) -> None:
    computed = "{{ strftime_now('%' ~ 'Y') }}" + SHOUTING
    assert in_chatml(computed, tmp_path / "computed").states_date


class WindowsTime(datetime):
    def strftime(self, format: str) -> str:
        raise ValueError("Invalid format string")


def test_a_form_of_the_date_that_the_system_lacks_is_told(tmp_path: Path) -> None:
    prompts = prompts_of("llama-3.2-instruct", tmp_path, WindowsTime(2026, 11, 24))
    with pytest.raises(UserError, match="Invalid format string"):
        prompts.prompt(talk("Why?"))


def test_the_clock_adds_nothing_to_the_text(tmp_path: Path) -> None:
    plain = in_chatml("\n  {% for m in messages %}\n{{ m['content'] }}\n  {% endfor %}\n", tmp_path / "a")
    dated = in_chatml(
        "\n  {% for m in messages %}\n{{ m['content'] }}\n  {% endfor %}\n{{ strftime_now('') }}", tmp_path / "b"
    )
    assert dated.text(talk("Why?")) == plain.text(talk("Why?"))


def test_a_template_of_another_pattern_is_refused_with_both_renderings(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refusal:
        _ = in_chatml(COUNTING, tmp_path).format
    assert "[1 of 3] 時間" in refusal.value.reason and "[1 of 1] 時間" in refusal.value.reason


def test_a_template_that_changes_the_words_is_refused_with_its_rendering(tmp_path: Path) -> None:
    prompts = in_chatml(SHOUTING, tmp_path)
    with pytest.raises(UserError, match="QUSERQ"):
        _ = prompts.format
    assert prompts.stops == prompts.eos == ("<|im_end|>",)


def test_a_conversation_into_whose_words_the_template_looks_is_refused_with_both_renderings(
    families: dict[str, ChatPrompts],
) -> None:
    prompts = families["smollm3"]
    messages = [{"role": "system", "content": "/no_think Be brief."}, *talk("Why?")]
    with pytest.raises(UserError) as refusal:
        prompts.for_server(messages)
    assert "Reasoning Mode: /no_think" in refusal.value.reason and "Reasoning Mode: /think" in refusal.value.reason
    assert "/no_think" in prompts.prompt(messages)  # the embedded chat takes the tokenizer's own rendering


def test_a_template_that_leaves_system_texts_out_in_silence_has_no_place_for_them(tmp_path: Path) -> None:
    prompts = in_chatml(DEAF, tmp_path)
    for refuse in (prompts.prompt, prompts.for_server, prompts.format.render):
        with pytest.raises(UserError, match="no place for a system message"):
            refuse(TELL)
    assert prompts.for_server(talk("Why?")) == talk("Why?")


def test_what_a_template_raises_is_told_in_its_words(families: dict[str, ChatPrompts]) -> None:
    with pytest.raises(UserError, match="roles must alternate"):
        families["gemma-3-it"].text([*talk("Why?"), *talk("Why?")])


def test_questions_without_an_answer_between_become_one_as_in_ollama(families: dict[str, ChatPrompts]) -> None:
    asked_again = [*talk("Why?"), *talk("Why not?")]
    assert conversation(asked_again) == talk("Why?\n\nWhy not?")
    for prompts in families.values():
        assert prompts.token_ids(asked_again) == prompts.token_ids(talk("Why?\n\nWhy not?"))


@pytest.mark.parametrize("roles", [[], ["system"], ["assistant", "user"], ["user", "assistant"], ["user", "system"]])
def test_what_is_no_conversation_is_refused_whatever_the_template(
    families: dict[str, ChatPrompts], roles: list[str]
) -> None:
    messages: list[Message] = [{"role": role, "content": "?"} for role in roles]
    for refuse in (families["qwen3"].prompt, families["qwen3"].for_server):
        with pytest.raises(UserError, match="no conversation"):
            refuse(messages)


def test_a_leading_token_that_the_server_adds_is_left_out(families: dict[str, ChatPrompts]) -> None:
    for name in ("llama-3-instruct", "gemma-3-it", "mistral-7b-instruct-v0.3"):
        bos = FAMILIES[name].bos
        assert bos in families[name].format.go_template(server_adds_bos=False)
        assert bos not in families[name].format.go_template(server_adds_bos=True)
    assert families["phi-3.5-mini-instruct"].format.bos == ""


def test_the_ends_of_generation_are_stops_too(tmp_path: Path) -> None:
    prompts = prompts_of("gemma-3-it", tmp_path)
    write_json(tmp_path / "generation_config.json", {"eos_token_id": [prompts.encode("<end_of_turn>")[0], 99999]})
    assert list(prompts.eos) == ["<eos>", "<end_of_turn>"]
    for damaged in ("{", "[]", '{"eos_token_id": "x"}'):
        (tmp_path / "generation_config.json").write_text(damaged, encoding="utf-8")
        assert list(prompts.eos) == ["<eos>"]


def test_a_template_without_markers_stops_at_the_heading_of_a_question(tmp_path: Path) -> None:
    assert "### user:" in in_chatml(NO_MARKERS, tmp_path).stops


def test_the_marks_of_thoughts_stop_nothing(tmp_path: Path) -> None:
    source = template("qwen2-instruct").replace("<|im_start|>assistant\\n", "<|im_start|>assistant\\n<think>\\n")
    family = FAMILIES["qwen2-instruct"]
    prompts = prompts_for(source, type(family)(**{**vars(family), "others": (*family.others, "<think>")}), tmp_path)
    assert "<think>" in prompts.special_tokens and prompts.format.opening.endswith("<think>\n")
    assert "<think>" not in prompts.stops


def test_prompts_without_a_given_day_are_of_today(tmp_path: Path) -> None:
    prompts_of("llama-3.2-instruct", tmp_path)
    assert abs((ChatPrompts(tmp_path).now - datetime.now()).total_seconds()) < 3600
    assert DAY.strftime("%d %b %Y") == "24 Nov 2026"


def test_a_format_is_plain_data(families: dict[str, ChatPrompts]) -> None:
    assert families["qwen2-instruct"].format == ChatFormat(**vars(families["qwen2-instruct"].format))
