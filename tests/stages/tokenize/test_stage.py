"""tokenize from documents.parquet to tokenizer and shards."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from thinkling.data.artifact import Artifact
from thinkling.data.documents import write_documents
from thinkling.data.shards import open_sources
from thinkling.data.tokenizer import Tokenizer
from thinkling.data.tokenizer_config import TokenizerConfig
from thinkling.errors import UserError
from thinkling.stages.base import StageContext
from thinkling.stages.tokenize import stage
from thinkling.stages.tokenize.config import TokenizeConfig

CALL = 'calc 4*8:4*8<tool_call>\n{"name": "calculator"}\n</tool_call>\n<tool_response>\n32\n</tool_response>\n.32\n'


def corpus() -> list[dict[str, Any]]:
    """Prose that spells a special token, and pages on which one stands."""
    prose = [f"word{i} the reader and the writer, number {i * 37}, <think> aloud\n" for i in range(200)]
    pages = [CALL.replace("4*8", f"{i}*{j}") for i in range(10) for j in range(10)]
    return [
        {"id": f"web/{i}", "text": t, "source": "web", "quality": "mq", "markup": False} for i, t in enumerate(prose)
    ] + [
        {"id": f"pages/{i}", "text": t, "source": "pages", "quality": "hq", "markup": True} for i, t in enumerate(pages)
    ]


def run(tmp_path: Path, documents: Sequence[dict[str, Any]], out: str = "out", **fields: Any) -> StageContext:
    tokenizer = fields.pop("tokenizer", {"vocab_size": 300})
    write_documents(tmp_path / "documents.parquet", documents)
    (tmp_path / out).mkdir(exist_ok=True)
    ctx = StageContext(
        "tokenize",
        tmp_path / out,
        {"documents": Artifact(tmp_path, {})},
        seed=0,
        tokenizer=TokenizerConfig.model_validate(tokenizer),
    )
    stage.run(TokenizeConfig.model_validate({"kind": "tokenize"} | fields), ctx)
    return ctx


def test_every_document_is_in_shards_or_validation_and_decodes_to_its_text(tmp_path: Path) -> None:
    documents = corpus()
    counts = run(tmp_path, documents, validation_fraction=0.1).counts
    tokenizer = Tokenizer.load(tmp_path / "out/tokenizer")
    expected = {"hq-pages": (90, 10), "mq-web": (180, 20)}
    found: list[str] = []
    for part, position in (("shards", 0), ("validation", 1)):
        sources = open_sources(tmp_path / "out" / part)
        assert {name: s.n_documents for name, s in sources.items()} == {n: e[position] for n, e in expected.items()}
        for source in sources.values():
            source.verify()
            for i in range(source.n_documents):
                ids = source.document(i)
                assert ids[-1] == tokenizer.end_of_text_id
                found.append(tokenizer.decode(ids[:-1]))
    assert sorted(found) == sorted(d["text"] for d in documents)
    assert counts["in"] == counts["kept"] == 300
    shards, validation = open_sources(tmp_path / "out/shards"), open_sources(tmp_path / "out/validation")
    web = counts["sources"]["mq-web"]
    assert (web["in"], web["documents"], web["validation_documents"]) == (200, 180, 20)
    assert (web["tokens"], web["validation_tokens"]) == (shards["mq-web"].n_tokens, validation["mq-web"].n_tokens)
    assert counts["tokens"] == sum(s.n_tokens for s in shards.values())
    text_bytes = sum(len(d["text"].encode()) for d in documents if d["source"] == "web")
    assert web["bytes_per_token"] == pytest.approx(text_bytes / (web["tokens"] + web["validation_tokens"]), abs=1e-4)


def test_special_tokens_are_real_on_our_pages_and_plain_characters_elsewhere(tmp_path: Path) -> None:
    run(tmp_path, corpus(), validation_fraction=0)
    tokenizer = Tokenizer.load(tmp_path / "out/tokenizer")
    shards = open_sources(tmp_path / "out/shards")
    pages = [list(shards["hq-pages"].document(i)) for i in range(100)]
    web = [list(shards["mq-web"].document(i)) for i in range(200)]
    assert all(ids.count(tokenizer.token_id("<tool_call>")) == 1 for ids in pages)
    assert not [ids for ids in web if tokenizer.token_id("<think>") in ids]
    assert not (tmp_path / "out/validation").exists()


def test_no_piece_of_a_special_token_is_learned_from_pages(tmp_path: Path) -> None:
    run(tmp_path, [d for d in corpus() if d["markup"]], tokenizer={"vocab_size": 270})
    tokenizer = Tokenizer.load(tmp_path / "out/tokenizer")
    learned = {tokenizer.decode([i]) for i in range(9 + 256, 270)}
    assert learned
    assert not [piece for piece in learned if "oo" in piece or "_" in piece]


def test_equal_runs_write_equal_bytes_and_leftovers_are_removed(tmp_path: Path) -> None:
    run(tmp_path, corpus(), out="one")
    (tmp_path / "two/shards/mq-gone.tmp").mkdir(parents=True)
    (tmp_path / "two/shards/mq-gone.tmp/tokens.bin").write_bytes(b"half")
    run(tmp_path, corpus(), out="two")
    files = [{p.relative_to(d): p.read_bytes() for p in d.rglob("*") if p.is_file()} for d in _both(tmp_path)]
    assert files[0] == files[1]


def _both(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "one", tmp_path / "two"


def test_training_stops_at_the_cap(tmp_path: Path) -> None:
    learned = run(tmp_path, corpus(), training_characters=3000).counts["tokenizer_trained_on"]
    assert learned["characters"] == 3000


def test_a_given_tokenizer_is_taken_as_it_is(tmp_path: Path) -> None:
    run(tmp_path, corpus(), out="first")
    given = tmp_path / "first/tokenizer"
    (given / "chat_template.jinja").write_text("{{ messages[0].content }}")
    ctx = run(tmp_path, corpus(), out="second", tokenizer={"path": str(given)})
    for path in given.iterdir():
        assert (tmp_path / "second/tokenizer" / path.name).read_bytes() == path.read_bytes()
    assert ctx.counts["tokenizer_trained_on"] == {}
    (given / "chat_template.jinja").unlink()
    run(tmp_path, corpus(), out="third", tokenizer={"path": str(given)})
    assert Tokenizer.load(tmp_path / "third/tokenizer").chat_template == stage.OURS.source


def test_transformers_loads_the_tokenizer_with_its_chat_template(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    run(tmp_path, corpus())
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out/tokenizer")
    ours = Tokenizer.load(tmp_path / "out/tokenizer")
    assert theirs.encode(CALL, add_special_tokens=False) == ours.encode(CALL, markup=True).tolist()
    text = theirs.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_broken_or_empty_documents_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="contains no documents"):
        run(tmp_path, [])
    with pytest.raises(UserError, match=r"tokenizer\.vocab_size"):
        run(tmp_path, corpus()[:3], tokenizer={"vocab_size": 5000})
    path = tmp_path / "documents.parquet"
    write_documents(path, corpus())
    path.write_bytes(path.read_bytes()[:-20])
    ctx = StageContext("tokenize", tmp_path / "out", {"documents": Artifact(tmp_path, {})}, 0)
    ctx.tokenizer = TokenizerConfig(vocab_size=300)
    with pytest.raises(UserError, match=r"documents\.parquet"):
        stage.run(TokenizeConfig(kind="tokenize"), ctx)
    assert list((tmp_path / "out").iterdir()) == []
