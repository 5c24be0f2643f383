"""Conversations to test with: any of our form, with plain text and with text that spells special tokens."""

from hypothesis import strategies as st

from thinkling.data.conversations import tool_call
from thinkling.data.tokenizer import SPECIAL_TOKENS


def conversations(text: st.SearchStrategy[str]) -> st.SearchStrategy[list[dict]]:
    """Any conversation of our form: system or not, one to three rounds, tools used or not."""
    calls = st.lists(st.builds(tool_call, text, st.dictionaries(text, text, max_size=2)), min_size=1, max_size=2)
    reasoning = st.none() | text

    @st.composite
    def draw_round(draw: st.DrawFn) -> list[dict]:
        turns: list[dict] = [{"role": "user", "content": draw(text)}]
        for _ in range(draw(st.integers(0, 2))):
            made = draw(calls)
            turns.append(
                {"role": "assistant", "content": draw(text), "reasoning_content": draw(reasoning), "tool_calls": made}
            )
            turns += [{"role": "tool", "content": draw(text)} for _ in made]
        return [*turns, {"role": "assistant", "content": draw(text), "reasoning_content": draw(reasoning)}]

    system = st.just([]) | text.map(lambda content: [{"role": "system", "content": content}])
    rounds = st.lists(draw_round(), min_size=1, max_size=3)
    return st.tuples(system, rounds).map(lambda parts: [*parts[0], *(turn for turns in parts[1] for turn in turns)])


trusted = st.text(alphabet='abz AB09+=\n\t"\\{}<>éж', max_size=12)
untrusted = st.lists(
    st.sampled_from([*SPECIAL_TOKENS, "a", "\n", "<", "\ufdd0", "\ufdd01", "assistant\n"]), max_size=5
).map("".join)
