"""Settings of a template: what the recipe gives it, and what an export writes into it."""

from pathlib import Path

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from thinkling.data.chat_template import ChatTemplate, read_chat_template
from thinkling.errors import UserError

QUESTION = [{"role": "user", "content": "x"}]
DATED = "{%- if tools %}t{% endif %}\n  {{ strftime_now('%d %B %Y, %a %b %-d %H') }} {{ messages[0].content }}"
MACRO = "{% macro head() %}{{ strftime_now('%Y-%m-%d') }}{% if brief %}!{% endif %}{% endmacro %}"
MACRO += "{{ head() }}{{ mood }}{{ size }}"


def test_issue_templates_008_a_template_that_asks_for_the_date() -> None:
    template = ChatTemplate(DATED, "dated")
    with pytest.raises(
        UserError,
        match=r"dated: .*strftime_now.*; the template needs the current date, so set chat\.variables\.date, for",
    ):
        template.render(QUESTION)
    assert template.with_settings({"date": "2026-07-26"}).render(QUESTION) == "  26 July 2026, Sun Jul 26 00 x"
    with pytest.raises(UserError, match=r"chat\.variables\.date: 'today' is not a date"):
        template.with_settings({"date": "today"})


def test_a_template_that_does_without_the_date_where_there_is_none() -> None:
    source = "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% else %}2024{% endif %}"
    assert ChatTemplate(source, "falls back").render(QUESTION) == "2024"
    assert ChatTemplate(source, "falls back").with_settings({"date": "2026-01-02"}).render(QUESTION) == "2026"


@pytest.mark.parametrize(
    "source",
    [DATED, MACRO, "\n{{ mood }}", "{% set ns = namespace(a=1) %} {{ mood }}{{ ns.a }}", "{{ brief }} {{ size }}"],
)
def test_transformers_renders_an_export_as_we_render_with_settings(source: str) -> None:
    known = {"date": "2026-07-26", "brief": True, "mood": "it's \\ so\n", "size": 3}
    read = {name: value for name, value in known.items() if ("strftime_now" if name == "date" else name) in source}
    template = ChatTemplate(source, "own").with_settings(read)
    ours = template.render(QUESTION)
    [theirs], _ = render_jinja_template(conversations=[QUESTION], chat_template=template.exported)
    assert ours == theirs
    assert ChatTemplate(template.exported, "next").render(QUESTION) == ours
    assert ChatTemplate(source, "plain").exported == source


def test_settings_of_a_later_stage_win_over_exported_ones() -> None:
    first = ChatTemplate(MACRO, "own").with_settings({"date": "2026-07-26", "mood": "calm"})
    later = ChatTemplate(first.exported, "next").with_settings({"date": "2027-01-01", "mood": "glad"})
    assert later.render(QUESTION) == "2027-01-01glad"
    assert later.exported.count("macro strftime_now") == 1
    [theirs], _ = render_jinja_template(conversations=[QUESTION], chat_template=later.exported)
    assert theirs == "2027-01-01glad"
    [given], _ = render_jinja_template(conversations=[QUESTION], chat_template=first.exported, mood="sad")
    assert given == "2026-07-26sad"


def test_templates_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<s>"}')
    (tmp_path / "mine.jinja").write_text("{{ bos_token }}{{ messages[0].content }}")
    assert read_chat_template(tmp_path / "mine.jinja", tmp_path).render(QUESTION) == "<s>x"
    with pytest.raises(UserError, match=r"none\.jinja: cannot be read as a chat template"):
        read_chat_template(tmp_path / "none.jinja", tmp_path)


def test_messages_reach_templates_as_in_transformers() -> None:
    source = "{% for m in messages %}{{ m.keys() | sort | join(' ') }};{% endfor %}"
    messages = [*QUESTION, {"role": "assistant", "content": "y", "reasoning_content": "because"}]
    [theirs], _ = render_jinja_template(conversations=[messages], chat_template=source)
    assert ChatTemplate(source, "keys").render(messages) == theirs
    with_loss = [messages[0], {**messages[1], "loss": False}]
    assert ChatTemplate(source, "keys").render(with_loss) == theirs


def test_settings_do_not_reach_out() -> None:
    with pytest.raises(UserError, match="unsafe"):
        ChatTemplate("{{ strftime_now.__self__.__class__.__mro__ }}", "bad").with_settings(
            {"date": "2026-07-26"}
        ).render(QUESTION)


def test_a_variable_that_the_template_does_not_read_is_refused() -> None:
    """A misspelt `enable_thinking` changed nothing, without a word."""
    template = ChatTemplate("{% if enable_thinking %}on{% endif %}{{ messages[0].content }}", "own")
    assert template.with_settings({"enable_thinking": True}).render(QUESTION).startswith("on")
    with pytest.raises(
        UserError, match=r"chat\.variables\.enable_thinkng: not a variable of chat template own; its variables are: e"
    ):
        template.with_settings({"enable_thinkng": True})
    with pytest.raises(UserError, match=r"chat\.variables\.date: not a variable"):
        template.with_settings({"date": "2026-07-26"})
