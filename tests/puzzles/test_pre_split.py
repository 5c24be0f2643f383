"""The pre-split of puzzle recipes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.data.tokenizer import Tokenizer, train_bpe
from thinkling.data.tokenizer_config import TokenizerConfig

TEXTS = [
    "def read(path):\n    return JSONDecoder(path)  # JSONDecoder of HTTPServer 2024 2024\n" * 3,
    "reverse ABCABC:ABCABC CBACBA\nsum A1B+5C+9D-8:B+5=6C+9=15D-8=7.7\n" * 20,
]
TOKENIZER: Tokenizer = train_bpe(TEXTS, 280, isolate=TokenizerConfig(vocab_size=280, pre_split="puzzles").pattern())
pieces = st.sampled_from(["HTTPServer", "a1B2", "  \n\n\t x", "reverse ABC", "é"])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), pieces)).map("".join))
def test_every_capital_and_digit_is_one_token(sample: str) -> None:
    decoded = [TOKENIZER.decode([i]) for i in TOKENIZER.encode(sample)]
    holders = [piece for piece in decoded if any(c.isascii() and (c.isupper() or c.isdigit()) for c in piece)]
    assert all(len(piece) == 1 for piece in holders)
    assert len(holders) == sum(c.isascii() and (c.isupper() or c.isdigit()) for c in sample)
