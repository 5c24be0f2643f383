"""Local and served models behind the same protocol: replies, shared models, and a real kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from thinkling.data.artifact import Artifact
from thinkling.data.chat_template import OURS
from thinkling.data.conversations import read_conversations
from thinkling.data.tokenizer import train_bpe
from thinkling.generate.backends import LocalModel
from thinkling.generate.engine import Sampling
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import save_pretrained
from thinkling.puzzles.sources import PuzzlesSource
from thinkling.stages.base import StageContext
from thinkling.stages.refine.config import RefineConfig
from thinkling.stages.refine.stage import backends, run

WORDS = {
    "Write a checklist": "1. Names the result\n2. Shows the steps",
    "Judge a solution": "1. PASS\n2. FAIL: no steps",
    "Rewrite a solution": "<solution>The result is 7, for 3+4=7.</solution>",
    "Below are a task": "<summary>adding</summary><chain>3 and 4 are 7</chain><result>7</result>",
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tokenizer = train_bpe(["sum A1B+5:B+5=6.6 sort list check mend chain " * 20], 270, chat_template=OURS.source)
    tokenizer.save(tmp_path / "tokenizer")
    shape = ModelConfig(
        architecture="llama", vocab_size=tokenizer.vocab_size, hidden_size=16, intermediate_size=16,
        num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, head_dim=16, max_position_embeddings=256,
    )  # fmt: skip
    decoder = Decoder(shape)
    decoder.init_weights(torch.Generator().manual_seed(0))
    save_pretrained(decoder, tmp_path / "model", tmp_path / "tokenizer", {})
    return tmp_path / "model"


def config(backend: dict[str, Any], **fields: Any) -> RefineConfig:
    backend = {"max_new_tokens": 96, **backend}
    base = {"kind": "refine", "inputs": {"refiner": "a"}, "problems": {"source": "p", "n_problems": 3}}
    roles = {"drafters": [backend], "evaluators": [backend], "checklist": backend, "reviser": backend, "chain": backend}
    return RefineConfig.model_validate(base | roles | fields)


def test_a_local_model_replies_by_seed(model: Path) -> None:
    local = LocalModel(model, max_concurrent=2)
    asked = [[{"role": "user", "content": f"sum A{i}B+1"}] for i in range(4)]
    replies = local.reply(asked, [1, 2, 3, 4], Sampling(1.0, 1.0), 8)
    assert len(replies) == 4
    assert {reply.finish_reason for reply in replies} <= {"stop", "length"}
    assert local.reply(asked, [1, 2, 3, 4], Sampling(1.0, 1.0), 8) == replies
    assert local.reply(asked, [5, 6, 7, 8], Sampling(1.0, 1.0), 8) != replies


def test_a_local_model_moves_to_the_device_of_this_process(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F2: refine's local models stayed on the CPU on machines with a GPU."""
    moved: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(Decoder, "to", lambda self, device: moved.append(device) or self)
    assert LocalModel(model).loaded.device == torch.device("cuda")
    assert moved == [torch.device("cuda")]


def test_fields_that_name_the_same_model_share_it(model: Path, tmp_path: Path) -> None:
    ctx = StageContext("refine", tmp_path, {"refiner": Artifact(model, {})}, 7)
    served = {"url": "http://127.0.0.1:1/v1", "model": "m", "max_new_tokens": 96}
    found = backends(config({"input": "refiner"}, evaluators=[served, served]), ctx)
    assert found["chain"] is found["checklist"] is found["drafters.0"]
    assert found["evaluators.0"] is found["evaluators.1"]
    assert found["evaluators.0"] is not found["chain"]


class Server(ThreadingHTTPServer):
    """Plays every role in words. `kill_after` answers, the asking process is killed."""

    answered = 0
    kill_after: int | None = None
    client: subprocess.Popen[bytes] | None = None


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        text = next((reply for start, reply in WORDS.items() if prompt.startswith(start)), "It is 7.")
        if "for 3+4=7" in prompt and prompt.startswith("Judge"):
            text = "1. PASS\n2. PASS"
        if server.kill_after is not None and server.answered >= server.kill_after and server.client is not None:
            server.client.send_signal(signal.SIGKILL)
            server.client.wait()
            server.kill_after = None
            return
        server.answered += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


PROCESS = """
import sys
from pathlib import Path
from thinkling.stages.base import StageContext
from thinkling.stages.refine.config import RefineConfig
from thinkling.stages.refine.stage import run
from thinkling.puzzles.sources import PuzzlesSource
backend = {"url": sys.argv[1], "model": "m", "concurrency": 1, "max_new_tokens": 96}
config = RefineConfig.model_validate({"kind": "refine", "problems": {"source": "p", "n_problems": 3},
    "drafters": [backend], "evaluators": [backend], "checklist": backend, "reviser": backend, "chain": backend})
source = PuzzlesSource(type="puzzles", families={"sum": {}})
run(config, StageContext("refine", Path(sys.argv[2]), {}, 7, sources={"p": source}))
"""


def test_served_roles_in_words_and_a_real_kill(tmp_path: Path) -> None:
    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        backend = {"url": url, "model": "m"}
        (tmp_path / "whole").mkdir()
        source = PuzzlesSource(type="puzzles", families={"sum": {}})
        ctx = StageContext("refine", tmp_path / "whole", {}, 7, sources={"p": source})
        run(config(backend, inputs={}), ctx)
        assert (ctx.counts["kept"], ctx.counts["rounds"]) == (3, {"1": 3})
        conversations = list(read_conversations(tmp_path / "whole" / "conversations.parquet"))
        assert conversations[0].messages[1]["content"] == "The result is 7, for 3+4=7."
        assert conversations[0].messages[1]["reasoning_content"] == "3 and 4 are 7"
        whole, server.answered = server.answered, 0
        assert whole == 3 * 6
        (tmp_path / "killed").mkdir()
        command = [sys.executable, "-c", PROCESS, url, str(tmp_path / "killed")]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        server.kill_after = 10
        server.client = subprocess.Popen(command, env=environment)
        assert server.client.wait(60) == -signal.SIGKILL
        server.client = subprocess.Popen(command, env=environment)
        assert server.client.wait(60) == 0
        assert server.answered == whole, "what was answered before the kill is not asked again"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    files = [
        {p.relative_to(d): p.read_bytes() for p in d.rglob("*") if p.is_file() and not p.name.endswith(".log.jsonl")}
        for d in (tmp_path / "whole", tmp_path / "killed")
    ]
    assert files[0] == files[1]
