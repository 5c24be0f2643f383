"""The chat template that a recipe asks for, and the export of a model that was trained with it."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from thinkling.data.chat_template import CHATML, OURS
from thinkling.data.tokenizer import Tokenizer, train_bpe
from thinkling.errors import UserError
from thinkling.generate.config import ChatConfig, chat_of_options
from thinkling.generate.renderer import Renderer, load_renderer

MESSAGES = [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "b", "reasoning_content": "a"}]
MOODY = """{% for m in messages %}{{ '[' + m.role + ']' }}
{%- if m.thinking %}{{ '<think>' + m.thinking + '</think>' }}{% endif %}
{{- m.content + '</s>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '[assistant]' + ('' if thoughtful else '-') + strftime_now('%Y') }}{% endif %}"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base model's directory with a vocabulary that knows no chats, and generation settings as an export has them."""
    tokenizer = train_bpe(["a b "], 258, special_tokens=["<s>", "</s>"])
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "</s>",
    }
    directory = tmp_path / "base"
    Tokenizer({**tokenizer._files, "tokenizer_config.json": json.dumps(config).encode()}).save(directory)
    (directory / "generation_config.json").write_text('{"eos_token_id": 1}')
    return directory


def oracle(directory: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(directory)


def test_a_base_model_without_a_template(base: Path) -> None:
    with pytest.raises(UserError, match=r"base: no chat template; add .* or set `chat: \{template: thinkling\}`"):
        Renderer.load(base)
    renderer = Renderer.load(base, ChatConfig(template="thinkling"))
    ids, loss = renderer.encode(MESSAGES)
    assert renderer.tokenizer.decode(ids[loss]) == "<think>\na\n</think>\n\nb</s>"
    assert renderer.stop_ids == {renderer.tokenizer.token_id("</s>")}


def test_an_export_renders_in_transformers_as_it_was_trained(base: Path, tmp_path: Path) -> None:
    renderer = Renderer.load(base, ChatConfig(template="thinkling"))
    renderer.export(base)
    expected = oracle(base).apply_chat_template(MESSAGES, return_dict=True, return_assistant_tokens_mask=True)
    ids, loss = renderer.encode(MESSAGES)
    assert ids.tolist() == expected["input_ids"]
    assert loss.astype(int).tolist() == expected["assistant_masks"]
    assert Renderer.load(base).encode(MESSAGES)[0].tolist() == ids.tolist()


def test_a_template_from_a_file_with_variables(base: Path, tmp_path: Path) -> None:
    (tmp_path / "moody.jinja").write_text(MOODY)
    chat = ChatConfig(template=str(tmp_path / "moody.jinja"), variables={"thoughtful": True, "date": "2026-07-26"})
    renderer = Renderer.load(base, chat)
    prompt = renderer.prompt(MESSAGES[:1])
    assert renderer.tokenizer.decode(prompt) == "[user]a b</s>[assistant]2026"
    assert renderer.tokenizer.decode(renderer.encode(MESSAGES)[0]) == "[user]a b</s>[assistant]<think>a</think>b</s>"
    renderer.export(base)
    text = oracle(base).apply_chat_template(MESSAGES[:1], tokenize=False, add_generation_prompt=True)
    assert text == "[user]a b</s>[assistant]2026"
    assert Renderer.load(base).prompt(MESSAGES[:1]).tolist() == prompt.tolist()
    other = Renderer.load(base, ChatConfig(variables={"thoughtful": False}))
    assert other.tokenizer.decode(other.prompt(MESSAGES[:1])) == "[user]a b</s>[assistant]-2026"
    with pytest.raises(UserError, match=r"chat\.variables\.date"):
        Renderer.load(base, ChatConfig(template=str(tmp_path / "moody.jinja"))).prompt(MESSAGES[:1])


def test_an_export_of_the_models_own_template_changes_no_file(tmp_path: Path) -> None:
    train_bpe(["a b "], 265, chat_template=CHATML).save(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 2}')
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    Renderer.load(tmp_path).export(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_one_template_is_left_where_the_configuration_had_another(tmp_path: Path) -> None:
    train_bpe(["a b "], 265).save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": "{{ messages }}"}))
    Renderer.load(tmp_path, ChatConfig(template="thinkling")).export(tmp_path)
    assert "chat_template" not in json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert Renderer.load(tmp_path).template.source == CHATML


def test_every_token_that_ends_a_turn_is_among_the_eos_ids(tmp_path: Path) -> None:
    """A ChatML base whose eos token ends documents: vLLM would not stop at the end of a turn."""
    tokenizer = train_bpe(["a b "], 265)
    config = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    Tokenizer({**tokenizer._files, "tokenizer_config.json": json.dumps(config).encode()}).save(tmp_path)
    (tmp_path / "config.json").write_text('{"eos_token_id": [0, 7]}')
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 0, "temperature": 0.6}')
    renderer = Renderer.load(tmp_path, ChatConfig(template="thinkling"))
    assert renderer.stop_ids == {0, 2, 7}
    renderer.export(tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text()) == {
        "eos_token_id": [0, 2, 7],
        "temperature": 0.6,
    }


def test_a_turn_that_ends_at_the_next_roles_token_stops_there(tmp_path: Path) -> None:
    source = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}"
    source += "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    special = ["<|endoftext|>", "<|user|>", "<|assistant|>"]
    train_bpe(["a b "], 259, special_tokens=special, chat_template=source).save(tmp_path)
    assert Renderer.load(tmp_path).stop_ids == {0, 1}


def test_a_renderer_that_writes_no_chats_takes_no_template(tmp_path: Path) -> None:
    train_bpe(["a b "], 265, chat_template=OURS.source).save(tmp_path)
    assert type(load_renderer("chat", tmp_path, ChatConfig(template="thinkling"))) is Renderer
    with pytest.raises(UserError, match="renderer 'puzzle_pages': it does not use chat templates; remove `chat`"):
        load_renderer("puzzle_pages", tmp_path, ChatConfig(template="thinkling"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"template": "llama"}, "'llama' is not valid; use own, thinkling or the path of a .jinja file"),
        ({"variables": {"messages": "x"}}, "'messages' is not a valid name"),
        ({"variables": {"not a name": 1}}, "'not a name' is not a valid name"),
        ({"variables": {"date": "today"}}, "date: 'today' is not a date"),
        ({"variables": {"x": 1.5}}, "valid"),
        ({"vars": {}}, "Extra inputs"),
    ],
)
def test_mistakes_in_the_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ChatConfig.model_validate(fields)


def test_values_keep_their_kind_and_days_become_text() -> None:
    import yaml

    text = "{variables: {enable_thinking: false, date: 2026-07-26, size: 3, mood: calm}}"
    found = ChatConfig.model_validate(yaml.safe_load(text)).variables
    assert found == {"enable_thinking": False, "date": "2026-07-26", "size": 3, "mood": "calm"}
    assert found["enable_thinking"] is False


def test_options_of_the_terminal() -> None:
    found = chat_of_options("thinkling", ["enable_thinking=false", "date=2026-07-26", "mood=a=b", "empty="])
    assert found.variables == {"enable_thinking": False, "date": "2026-07-26", "mood": "a=b", "empty": ""}
    for template, variables, message in (
        ("own", ["mood"], "--var mood: use the form NAME=VALUE"),
        ("own", ["messages=1"], "--var: 'messages' is not a valid name"),
        ("llama", [], "--template: 'llama' is not valid; use own"),
    ):
        with pytest.raises(UserError, match=message):
            chat_of_options(template, variables)


def test_a_template_whose_reasoning_could_not_be_read_back_is_refused(tmp_path: Path) -> None:
    """Its reasoning would have been judged as the answer."""
    source = CHATML.replace("<think>", "<musing>").replace("</think>", "</musing>")
    train_bpe(["a b "], 265, chat_template=source).save(tmp_path)
    with pytest.raises(UserError, match=r"it writes reasoning in unknown tags.*template: thinkling"):
        Renderer.load(tmp_path).prompt(MESSAGES[:1])


def test_the_stop_token_is_found_where_a_generation_block_holds_the_newline_behind_it(tmp_path: Path) -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{{ '[a]' }}{% generation %}{{ m.content + '<stop>\n' }}"
        "{% endgeneration %}{% else %}{{ '[u]' + m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '[a]' }}{% endif %}"
    )
    tokenizer = train_bpe(["a b "], 258, special_tokens=["<s>", "<stop>"], chat_template=source)
    tokenizer.save(tmp_path)
    assert tokenizer.token_id("<stop>") in Renderer.load(tmp_path).stop_ids
