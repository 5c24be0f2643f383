"""A user's problems through every stage that takes problems, by one recipe and no code."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from thinkling.data.artifact import Artifact
from thinkling.data.chat_template import OURS
from thinkling.data.conversations import read_conversations
from thinkling.data.tokenizer import train_bpe
from thinkling.errors import UserError
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import save_pretrained
from thinkling.pipeline import doctor
from thinkling.pipeline.recipe import load_recipe
from thinkling.pipeline.runner import Run, execute
from thinkling.stages.rl import band

REPLIES = {
    "Write a checklist": "1. Names the side",
    "Judge a solution": "1. PASS",
    "Below are a task": "<summary>s</summary><chain>It fell.</chain><result>\\boxed{1}</result>",
}


class Handler(BaseHTTPRequestHandler):
    asked: list[list[dict[str, str]]] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body["messages"])
        prompt = body["messages"][-1]["content"]
        text = next((reply for start, reply in REPLIES.items() if prompt.startswith(start)), "\\boxed{1}")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@pytest.fixture
def url() -> Iterator[str]:
    Handler.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def recipe(tmp_path: Path, url: str) -> Path:
    """Coins that fall on 0 or 1 as nobody can know: a model that learns the form is right half of the time."""
    rng = random.Random(0)
    coins = [{"question": f"Coin {n}?", "answer": f"It fell.\n#### {rng.randint(0, 1)}"} for n in range(100, 240)]
    (tmp_path / "coins.jsonl").write_text("".join(json.dumps(coin) + "\n" for coin in [*coins, coins[0], {"x": 1}]))
    pages = [{"text": f"A page about {subject} and nothing else."} for subject in ("tea", "rain", "Coin 100?")]
    pages.append({"text": "There it says: Coin 239? Nobody knows."})
    (tmp_path / "pages.jsonl").write_text("".join(json.dumps(page) + "\n" for page in pages))
    tokenizer = train_bpe([coin["question"] + coin["answer"] + "\\boxed{}" for coin in coins] * 3, 280)
    model = Decoder(
        ModelConfig(
            vocab_size=tokenizer.vocab_size, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, head_dim=16,
        )
    )  # fmt: skip
    model.init_weights(torch.Generator().manual_seed(0))
    tokenizer.with_chat_template(OURS.source).save(tmp_path / "tokenizer")
    save_pretrained(model, tmp_path / "start", tmp_path / "tokenizer", {})
    served = {"url": url, "model": "m", "max_new_tokens": 96}
    stages = {
        "curate": {"kind": "curate", "sources": ["pages"], "heldout": ["coins"], "quality": {"pages": "hq"}},
        "refine": {
            "kind": "refine", "problems": {"source": "coins", "n_problems": 6}, "drafters": [served],
            "evaluators": [served], "checklist": served, "reviser": served, "chain": served,
        },
        "sft": {
            "kind": "sft", "inputs": {"model": "start", "conversations": "refine"}, "examples": {"source": "coins"},
            "epochs": 12, "sequence_length": 64, "batch_size": 4, "optimizer": {"name": "adamw", "lr": 1.0e-2},
        },
        "evaluate": {
            "kind": "evaluate", "inputs": {"model": "sft"}, "k": 2, "max_new_tokens": 24,
            "task_sets": {"coins": {"source": "coins"}},
        },
        "rl": {
            "kind": "rl", "inputs": {"model": "sft"}, "problems": [{"source": "coins", "n_problems": 16}],
            "band": {"samples": 4, "low": 0, "high": 1, "min_prompts": 2}, "steps": 1, "prompts_per_step": 2,
            "samples_per_prompt": 4, "max_new_tokens": 24, "optimizer": {"name": "adamw", "lr": 1.0e-4},
        },
    }  # fmt: skip
    whole = {
        "name": "own",
        "sources": {
            "coins": {
                "type": "problems", "preset": "gsm8k", "path": str(tmp_path / "coins.jsonl"), "system": "Toss.",
                "template": "{question}", "answer_template": "\\boxed{{answer}}", "heldout_fraction": 0.2,
            },
            "pages": {"type": "jsonl", "paths": [str(tmp_path / "pages.jsonl")]},
            "start": {"type": "model", "path": str(tmp_path / "start")},
        },
        "stages": stages,
    }  # fmt: skip
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
    return tmp_path / "own.yaml"


@pytest.mark.slow
def test_problems_of_the_users_own_through_every_stage(recipe: Path, tmp_path: Path) -> None:
    loaded = load_recipe(recipe)
    findings = {finding.what: finding for finding in doctor.examine(loaded)}
    assert findings["source coins"].detail.endswith(
        "verifier maths; 2 of 142 records rejected (duplicate 1, no answer 1)"
    )
    run = Run(loaded, tmp_path / "runs")
    done: dict[str, Artifact] = {d.name: d.artifact for d in execute(run, Console(quiet=True))}
    ledger = {"in": 142, "kept": 140, "rejected": {"duplicate": 1, "no answer": 1}}
    for name, artifact in done.items():
        assert artifact.counts["sources"]["coins"] == ledger, name
        assert len(artifact.file("rejected.jsonl").read_text().splitlines()) == 2
    heldout = loaded.sources["coins"].problems("heldout")
    assert {problem.bare or problem.question for problem in heldout} & {"Coin 100?", "Coin 239?"}
    removed = read_table_texts(done["curate"])
    assert removed == [p for p in removed if any((h.bare or h.question) in p for h in heldout)] != []
    refined = list(read_conversations(done["refine"].file("conversations.parquet")))
    assert [m["role"] for m in refined[0].messages] == ["system", "user", "assistant"]
    drafts = [messages for messages in Handler.asked if messages[-1]["content"].startswith("Coin")]
    assert drafts
    assert all(messages[0] == {"role": "system", "content": "Toss."} for messages in drafts)
    assert done["sft"].counts["from_examples"] == 140 - len(heldout)
    (scores,) = json.loads(done["evaluate"].file("scores.json").read_text())
    assert scores["n"] == len(heldout)
    assert 0.2 < scores["mean"] < 0.8, "coins"
    rates = band.read(done["rl"].file(band.BAND))
    assert len(rates) == 16
    assert sum(rate.kept for rate in rates) >= 2


def read_table_texts(curated: Artifact) -> list[str]:
    import pyarrow.parquet as pq

    return pq.read_table(curated.file("rejected.parquet")).column("text").to_pylist()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sources.coins.path", "none.jsonl", "sources.coins: none.jsonl: no such file or directory"),
        ("sources.coins.preset", "mbpp", "no usable problem in its records.* keys are question, answer"),
        ("sources.coins.heldout_fraction", "0", r"stages\.curate\.heldout: .*: the source has 0 held-out problems"),
        ("stages.rl.problems", "[{source: coins, n_problems: 900}]", r"problems\.source: .* 900 were requested"),
        ("stages.sft.examples.families", "[heads]", "family 'heads'; available families: gsm8k"),
    ],
)  # fmt: skip
def test_what_a_source_lacks_is_told_before_the_first_stage(
    recipe: Path, tmp_path: Path, field: str, value: str, message: str
) -> None:
    loaded = load_recipe(recipe, [f"{field}={value}"])
    with pytest.raises(UserError, match=message) as caught:
        execute(Run(loaded, tmp_path / "runs"), Console(quiet=True))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()
    assert not Handler.asked
