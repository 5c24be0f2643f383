"""Names of a user's own for fields and roles, and nulls that a table puts where nothing was."""

from thinkling.data.chat_forms import messages, prompt_completion
from thinkling.data.chat_forms.fields import FieldMap, without_nulls


def test_names_are_mapped_in_the_record_and_in_its_messages() -> None:
    fields = {"messages": "dialog", "role": "speaker", "content": "text", "reasoning": "cot", "tools": "api"}
    turns = [{"speaker": "customer", "text": "hi"}, {"speaker": "agent", "text": "hello", "cot": "hm"}]
    record = {"dialog": turns, "api": [{"name": "f"}], "messages": "3 unread"}
    found = messages.read(FieldMap(fields, {"customer": "user", "agent": "assistant"}).apply(record))
    assert found.messages == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello", "reasoning_content": "hm"},
    ]
    assert found.tools[0]["function"]["name"] == "f"


def test_question_and_answer_are_a_prompt_and_a_completion() -> None:
    fields = {"prompt": "Question", "completion": "Response", "reasoning": "Complex_CoT"}
    record = {"Question": "2+2?", "Complex_CoT": "two twos", "Response": "4"}
    [_, answer] = prompt_completion.read(FieldMap(fields).apply(record)).messages
    assert answer == {"role": "assistant", "content": "4", "reasoning_content": "two twos"}


def test_a_record_without_the_mapped_field_keeps_the_usual_one() -> None:
    assert FieldMap({"messages": "dialog"}).apply({"messages": [1]}) == {"messages": [1]}
    assert FieldMap().apply({"a": 1}) == {"a": 1}


def test_nulls_of_a_table_are_taken_for_absent_at_any_depth() -> None:
    assert without_nulls({"a": None, "b": [{"c": None, "d": 0}], "e": ""}) == {"b": [{"d": 0}], "e": ""}
