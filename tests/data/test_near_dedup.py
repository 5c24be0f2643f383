"""Near duplicates against their definition: all pairs, exact Jaccard, connected components."""

from __future__ import annotations

import builtins
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.generate.fake_server import Watching
from thinkling.data.documents import Counts, RejectedWriter
from thinkling.data.near_dedup import NearDuplicates, UnionFind, clusters, jaccard, near_unique, word_runs
from thinkling.data.ngrams import WordHasher
from thinkling.errors import UserError

VOCABULARY = [f"w{i}" for i in range(400)]


def changed(words: list[str], n: int, rng: random.Random) -> list[str]:
    out = list(words)
    for place in rng.sample(range(len(words)), n):
        out[place] = rng.choice(VOCABULARY)
    return out


def runs_of(words: list[str], size: int) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


@given(st.integers(1, 40), st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=60))
def test_union_find_gives_the_components_and_their_smallest_members(n: int, pairs: list[tuple[int, int]]) -> None:
    pairs = [(i % n, j % n) for i, j in pairs]
    joined = UnionFind(n)
    for i, j in pairs:
        joined.union(i, j)
    component = list(range(n))  # by passing the smallest label round until nothing moves
    while True:
        before = list(component)
        for i, j in pairs:
            component[i] = component[j] = min(component[i], component[j])
        if component == before:
            break
    assert joined.representatives() == component


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_jaccard(a: set[int], b: set[int]) -> None:
    found = jaccard(np.array(sorted(a), np.uint64), np.array(sorted(b), np.uint64))
    assert found == (len(a & b) / len(a | b) if a | b else 0.0)


@given(st.lists(st.sampled_from("ab c"), max_size=30), st.integers(1, 4))
def test_word_runs_are_as_many_as_the_distinct_runs(words: list[str], size: int) -> None:
    text = "  ".join(words).upper()
    assert len(word_runs(text, size, WordHasher())) == len(runs_of(text.lower().split(), size))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_clusters_are_those_of_all_pairs_whatever_the_order(seed: int) -> None:
    rng = random.Random(seed)
    originals = [[rng.choice(VOCABULARY) for _ in range(120)] for _ in range(6)]
    documents = [*originals, *(changed(rng.choice(originals), rng.choice((0, 1, 2, 30)), rng) for _ in range(8))]
    rng.shuffle(documents)
    settings_ = NearDuplicates(threshold=0.8, bands=40, rows=3)  # candidates so many that none is missed
    joined = UnionFind(len(documents))
    sets = [runs_of(words, 5) for words in documents]
    for i, a in enumerate(sets):
        for j, b in enumerate(sets[:i]):
            if len(a & b) / len(a | b) >= 0.8:
                joined.union(i, j)
    assert clusters((" ".join(words) for words in documents), settings_) == joined.representatives()


def test_planted_copies_are_found_and_nothing_else() -> None:
    rng = random.Random(0)
    originals = [[rng.choice(VOCABULARY) for _ in range(490)] for _ in range(100)]
    copies = [changed(words, 8, rng) for words in originals[:60]]
    first = clusters((" ".join(words) for words in [*originals, *copies]), NearDuplicates())
    assert first[:100] == list(range(100))
    assert first[100:] == list(range(60))


def test_short_texts_are_left_alone() -> None:
    text = " ".join(VOCABULARY[:49])
    assert clusters([text, text, "", ""], NearDuplicates(min_words=50)) == [0, 1, 2, 3]
    assert clusters([text, text, "", ""], NearDuplicates(min_words=49)) == [0, 0, 2, 3]
    assert clusters([], NearDuplicates()) == []


def test_the_others_of_a_cluster_go_with_the_first_ones_id(tmp_path: Path) -> None:
    words = VOCABULARY[:100]
    texts = [" ".join(words), "short", " ".join([*words[:-1], "end"]), " ".join(words[::-1])]
    documents = [
        {"id": f"d{i}", "text": text, "source": "s", "quality": "hq", "markup": False} for i, text in enumerate(texts)
    ]
    first, counts = clusters(texts, NearDuplicates()), Counts("near dedup")
    with RejectedWriter(tmp_path / "rejected.parquet") as rejected:
        kept = list(near_unique(documents, first, [d["id"] for d in documents], counts, rejected))
    assert [document["id"] for document in kept] == ["d0", "d1", "d3"]
    row = pq.read_table(tmp_path / "rejected.parquet").to_pylist()[0]
    assert (row["id"], row["reason"], row["detail"]) == ("d2", "near duplicate", "of d0")
    assert counts.as_dict() == {"in": 4, "kept": 3, "rejected": {"near duplicate": 1}}


def test_without_rensa_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name == "rensa":
            raise ImportError(name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"thinkling\[curate\]"):
        clusters([" ".join(VOCABULARY)], NearDuplicates())


UNSPACED = {
    "zh": (
        "今天上午镇上的图书馆重新开放读者可以借阅新书也可以在阅览室里安静地看报纸门口还摆着几盆兰花"
        "管理员说以后每周六都会有人来讲故事孩子们听完以后可以带一本书回家"
    ),
    "ja": (
        "今日の午前に町の図書館がふたたび開き読者は新しい本を借りたり閲覧室で静かに新聞を読んだりで"
        "きるようになり入口には花が置かれ土曜日には子どもたちに昔話を語る人が来る"
    ),
    "th": (
        "เมื่อเช้านี้ห้องสมุดประจำเมืองเปิดให้บริการอี"
        "กครั้งผู้อ่านสามารถยืมหนังสือเล่มใหม่หรือนั่ง"
        "อ่านหนังสือพิมพ์อย่างเงียบสงบในห้องอ่านหนังสื"
        "อได้ตลอดทั้งวันและทุกวันเสาร์จะมีคนมาเล่านิทา"
        "นให้เด็กๆฟัง"
    ),
    "km": (
        "ព្រឹកនេះបណ្ណាល័យក្នុងទីក្រុងបានបើកឡើងវិញអ្នកអ"
        "ានអាចខ្ចីសៀវភៅថ្មីៗឬអានកាសែតដោយស្ងៀមស្ងាត់នៅក"
        "្នុងបន្ទប់អានហើយរៀងរាល់ថ្ងៃសៅរ៍មានអ្នកមកនិទាន"
        "រឿងឲ្យក្មេងៗស្តាប់ជាមួយគ្នា"
    ),
    "my": (
        "ဒီမနက်မြို့ရဲ့စာကြည့်တိုက်ကိုပြန်ဖွင့်ခဲ့ပြီး"
        "စာဖတ်သူတွေကစာအုပ်အသစ်တွေကိုငှားနိုင်သလိုစာဖတ်"
        "ခန်းထဲမှာသတင်းစာကိုတိတ်ဆိတ်စွာဖတ်နိုင်ပြီးစနေ"
        "နေ့တိုင်းကလေးတွေကိုပုံပြင်ပြောပြမယ့်သူလာမယ်"
    ),
}


@pytest.mark.parametrize("language", UNSPACED)
def test_a_text_without_spaces_is_not_one_word(language: str) -> None:
    text = UNSPACED[language]
    settings_ = NearDuplicates(min_words=30)
    other = "".join(random.Random(1).sample(text, len(text)))
    assert clusters([text, text[2:], other], settings_) == [0, 0, 2]
    assert clusters([text[:25], text[:25], other], settings_) == [0, 1, 2]


def test_widths_and_line_breaks_of_a_text_without_spaces_make_no_difference() -> None:
    text = "第３章：図書館は、毎週１２時間あいている。" + UNSPACED["ja"]
    copy = text.replace("３", "3").replace("１２", "12").replace("：", ":").replace("、", ",\n")
    assert np.array_equal(word_runs(text, 5, WordHasher()), word_runs(copy, 5, WordHasher()))


def test_a_mixed_text_has_runs_over_words_and_characters() -> None:
    words = " ".join(VOCABULARY[:60])
    text = f"{words} {UNSPACED['zh']}"
    assert clusters([text, text.replace("安静", "大声"), f"{words} {UNSPACED['ja']}"], NearDuplicates()) == [0, 0, 2]
    hasher = WordHasher()
    assert np.isin(word_runs(words, 5, hasher), word_runs(text, 5, hasher)).all()


def test_signatures_and_comparison_show_their_progress_in_documents() -> None:
    """Near-dedup took a minute without a line."""
    rng = random.Random(0)
    texts = [" ".join(rng.choices(VOCABULARY, k=60)) for _ in range(50)] + ["too short to compare"]
    shown = Watching()
    clusters(texts + texts[:10], NearDuplicates(), shown, "curate: near dedup")
    assert list(shown.bars) == ["curate: near dedup, signatures", "curate: near dedup, comparison"]
    for bar in shown.bars.values():
        assert (bar.unit, bar.total) == ("documents", 60)
        assert bar.done == pytest.approx(60)
    assert shown.bars["curate: near dedup, comparison"].moves >= 20
