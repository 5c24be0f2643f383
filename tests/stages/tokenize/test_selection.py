"""Which documents are for validation and which text trains the tokenizer."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from thinkling.stages.tokenize.selection import share_out, survey, training_sample, validation_documents


def documents(source: str, n: int, characters: int = 10) -> list[dict[str, Any]]:
    return [{"id": f"{source}/{i}", "source": source, "quality": "hq", "text": "x" * characters} for i in range(n)]


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 1000), min_size=1, max_size=8), st.integers(0, 5000))
def test_shares_are_fair_and_use_all_that_there_is(sizes: dict[str, int], total: int) -> None:
    shares = share_out(sizes, total)
    assert all(shares[name] <= sizes[name] for name in sizes)
    assert sum(shares.values()) == min(total, sum(sizes.values()))
    cut = [shares[name] for name in sizes if shares[name] < sizes[name]]
    assert not cut or max(shares.values()) <= min(cut) + 1


@given(st.permutations(documents("a", 30) + documents("b", 9)), st.floats(0, 0.49))
def test_validation_is_exact_in_number_and_blind_to_order(shuffled: list[dict[str, Any]], fraction: float) -> None:
    def ids(rows: set[int], of: list[dict[str, Any]]) -> set[str]:
        return {of[row]["id"] for row in rows}

    ordered = documents("a", 30) + documents("b", 9)
    chosen = ids(validation_documents(survey(shuffled), fraction), shuffled)
    assert chosen == ids(validation_documents(survey(ordered), fraction), ordered)
    assert sum(i.startswith("a/") for i in chosen) == int(fraction * 30)
    assert sum(i.startswith("b/") for i in chosen) == int(fraction * 9)


def test_training_sample_is_balanced_capped_and_free_of_validation_documents() -> None:
    groups = survey(documents("big", 100) + documents("small", 5) + documents("middle", 50))
    validation = validation_documents(groups, 0.2)
    sample = training_sample(groups, validation, 405)
    assert not validation & set(sample)
    taken = {name: sum(sample.get(row, 0) for row in group.rows) for name, group in groups.items()}
    assert taken == {"hq-big": 183, "hq-middle": 182, "hq-small": 40}
    assert max(sample.values()) == 10
    assert training_sample(groups, validation, 10**6).keys() == set(range(155)) - validation
