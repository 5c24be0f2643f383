"""Served models: each stumble of a newcomer with one, and what the client must do instead."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.generate.fake_server import Failing, Watching, failing_first, serving
from thinkling.errors import UserError
from thinkling.generate import failures
from thinkling.generate.backends import Reply
from thinkling.generate.client import UNREADABLE_ATTEMPTS, ServedModel
from thinkling.generate.config import ServerConfig
from thinkling.generate.engine import Sampling


def made(url: str, kept: Path | None = None, progress: Watching | None = None, **fields: Any) -> ServedModel:
    config = ServerConfig.model_validate({"url": url, "model": "m", **fields})
    return ServedModel(config, "stages.refine.chain", kept, progress, pause_s=0.001)


def ask(model: ServedModel, *texts: str) -> list[Reply]:
    return model.reply(
        [[{"role": "user", "content": t}] for t in texts], list(range(len(texts))), Sampling(0.5, 0.9), 32
    )


def error(status: int, message: str, **headers: str) -> Failing:
    return Failing(status, json.dumps({"error": {"message": message, "code": None}}), headers)


def test_a_429_with_retry_after_is_waited_for_as_long_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended the run after 14 s of waiting, the header ignored."""
    with serving(failing_first([error(429, "slow down", **{"Retry-After": "20"})])) as server:
        model = made(server.url)
        slept: list[float] = []
        monkeypatch.setattr(model._pace, "sleep", slept.append)
        monkeypatch.setattr(model._pace, "hold", lambda seconds: slept.append(-seconds))
        assert ask(model, "a") == [Reply("fine")]
    assert slept[0] == -20
    assert 20 <= slept[1] <= 20.1


def test_retry_after_may_be_a_date() -> None:
    assert 28 <= failures.wait_of({"retry-after": formatdate(time.time() + 30, usegmt=True)}) <= 30
    assert failures.wait_of({"Retry-After": "2.5"}) == 2.5
    for unreadable in ("", "soon", "nan", "inf", "-3", "Wed, 99 Nov 2026 99:99:99 GMT"):
        assert failures.wait_of({"Retry-After": unreadable}) == 0


def test_a_retry_after_beyond_the_patience_ends_at_once_and_says_why() -> None:
    with (
        serving(lambda number, body: error(429, "daily limit", **{"Retry-After": "86400"})) as server,
        pytest.raises(
            UserError,
            match=r"daily limit \(the server asks for a wait of 86400 s, but only 600 s of patience_s 600 are left",
        ),
    ):
        ask(made(server.url), "a")
    assert len(server.bodies) == 1


def test_one_request_that_fails_again_and_again_does_not_end_the_run() -> None:
    """A request unlucky four times ended it."""
    with serving(lambda number, body: error(429, "busy") if number % 10 else "fine") as server:
        assert ask(made(server.url, concurrency=1), "a", "b") == [Reply("fine"), Reply("fine")]
    assert len(server.bodies) == 11


def test_the_patience_ends_and_the_error_says_so() -> None:
    with (
        serving(lambda number, body: error(503, "loading\nthe model")) as server,
        pytest.raises(UserError) as raised,
    ):
        ask(made(server.url, patience_s=0.1), "a")
    text = str(raised.value)
    assert text.startswith(f"stages.refine.chain: {server.url}/chat/completions: HTTP 503: loading the model (")
    assert "patience_s 0.1 exhausted" in text
    assert len(server.bodies) > 2


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 413, 422, 501])
def test_what_cannot_pass_ends_at_once_with_the_words_of_the_server(status: int) -> None:
    """A 400's reason was thrown away, and a 402 asked four times."""
    words = "Unsupported parameter: 'max_tokens' is not supported; use 'max_completion_tokens'"
    with serving(lambda number, body: error(status, words)) as server, pytest.raises(UserError) as raised:
        ask(made(server.url), "a")
    assert str(raised.value) == f"stages.refine.chain: {server.url}/chat/completions: HTTP {status}: {words}"
    assert len(server.bodies) == 1


def test_a_spent_quota_is_not_waited_for() -> None:
    body = json.dumps({"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}})
    with serving(lambda number, _: Failing(429, body)) as server, pytest.raises(UserError, match="current quota"):
        ask(made(server.url), "a")
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"error": {"message": "no such model"}}', "no such model"),
        ('{"error": "no such model"}', "no such model"),
        ('{"message": "no such model"}', "no such model"),
        ('{"detail": [{"loc": ["body"], "msg": "bad"}]}', '[{"loc": ["body"], "msg": "bad"}]'),
        ("<html><body><h1>502</h1>\n Bad   Gateway</body></html>", "502 Bad Gateway"),
        ("", "Reason"),
        ("\x1b[31mred\x07", "[31mred"),
        ("x" * 5000, "x" * 299 + "…"),
    ],
)
def test_words_of_a_server_are_one_line(body: str, words: str) -> None:
    assert failures.words_of(body, "Reason") == words


def test_an_error_in_an_answer_of_status_200_is_an_error() -> None:
    body = json.dumps({"error": {"message": "no credits", "code": 402}})
    with serving(lambda number, _: Failing(200, body)) as server, pytest.raises(UserError, match="HTTP 402: no credit"):
        ask(made(server.url), "a")
    assert len(server.bodies) == 1


def test_answers_that_are_no_completion_are_paid_for_only_so_often() -> None:
    with serving(lambda number, _: Failing(200, "{}")) as server, pytest.raises(UserError, match="is not a chat"):
        ask(made(server.url), "a")
    assert len(server.bodies) == UNREADABLE_ATTEMPTS


def test_a_redirect_takes_no_key_to_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "s3cret")
    with serving(lambda number, body: "hers") as other:
        moved = Failing(307, "", {"Location": f"{other.url}/chat/completions"})
        with serving(lambda number, body: moved) as server, pytest.raises(UserError, match="redirects to http"):
            ask(made(server.url, key_variable="SOME_KEY"), "a")
    assert other.bodies == []


def test_no_server_is_waited_for_and_then_named() -> None:
    with serving(lambda number, body: "fine") as server:
        url = server.url
    with pytest.raises(UserError, match=r"refused.*patience_s 0\.05 exhausted"):
        ask(made(url, patience_s=0.05), "a")


def test_a_timeout_is_said_with_its_field() -> None:
    def slow(number: int, body: Any) -> str:
        time.sleep(0.3)
        return "late"

    with serving(slow) as server, pytest.raises(UserError, match=r"no answer within timeout_s 0\.05"):
        ask(made(server.url, timeout_s=0.05, patience_s=0.0), "a")


def test_waiting_is_shown() -> None:
    watching = Watching()
    with serving(failing_first([error(429, "busy")] * 5)) as server:
        ask(made(server.url, progress=watching), "a")
    (line,) = watching.warnings  # of five failures within 30 s the first
    assert line.startswith("stages.refine.chain: HTTP 429: busy; retrying in 0 s, for up to 600 s more (0 answered)")


def test_the_key_is_in_no_error_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-s3cret")
    says = failing_first([], "fine")
    with serving(says) as server:
        ask(made(server.url, tmp_path, key_variable="SOME_KEY", key_header="api-key"), "a")
        assert {k.lower(): v for k, v in server.headers[0].items()}["api-key"] == "sk-s3cret"
        assert all(b"s3cret" not in path.read_bytes() for path in tmp_path.iterdir())
        server.says = lambda number, body: error(401, "Incorrect API key provided: sk-s3cret")
        with pytest.raises(UserError, match=r"provided: …$"):
            ask(made(server.url, key_variable="SOME_KEY"), "a")


def test_fields_of_the_request_can_be_set() -> None:
    """No field changed the body, so newer models could not be used."""
    fields = {
        "max_tokens_field": "max_completion_tokens",
        "omit": ["temperature", "top_p"],
        "reasoning_effort": "low",
        "extra_body": {"chat_template_kwargs": {"enable_thinking": False}},
        "headers": {"X-Title": "thinkling"},
    }
    with serving(lambda number, body: "fine") as server:
        ask(made(server.url, **fields), "a")
    assert server.bodies == [
        {
            "model": "m", "messages": [{"role": "user", "content": "a"}], "max_completion_tokens": 32, "seed": 0,
            "reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False},
        }
    ]  # fmt: skip
    assert {k.lower(): v for k, v in server.headers[0].items()}["x-title"] == "thinkling"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"extra_body": {"messages": []}}, "extra_body.messages: cannot be set here"),
        ({"extra_body": {"model": "other"}}, "extra_body.model: cannot be set here"),
        ({"extra_body": {"stream": True}}, "extra_body.stream: cannot be set here"),
        ({"headers": {"Authorization": "Bearer x"}}, "headers.Authorization: a recipe must not contain keys"),
        ({"headers": {"x-api-key": "x"}}, "headers.x-api-key: a recipe must not contain keys"),
        ({"headers": {"X-A": "1\r\nX-B: 2"}}, "headers.X-A: use only letters, digits and hyphens"),
        ({"budget": {"cost": 1}}, "budget.cost: the cost cannot be computed without prices"),
        (
            {"url": None, "model": None, "reasoning_effort": "low"},
            "reasoning_effort: has an effect only for a served model",
        ),
    ],
)
def test_faulty_fields_are_refused_by_the_recipe(fields: dict[str, Any], said: str) -> None:
    given = {"url": "http://127.0.0.1:1/v1", "model": "m", **fields}
    with pytest.raises(ValidationError) as raised:
        ServerConfig.model_validate({name: value for name, value in given.items() if value is not None})
    assert said in str(raised.value)


def test_machine_settings_are_no_part_of_the_result() -> None:
    plain = ServerConfig(url="http://127.0.0.1:1/v1", model="m")
    other = plain.model_copy(update={"concurrency": 1, "timeout_s": 3.0, "patience_s": 5.0, "headers": {"X": "1"}})
    assert plain.model_dump() == other.model_dump()
    assert plain.model_dump() != plain.model_copy(update={"reasoning_effort": "low"}).model_dump()


def test_usage_and_cost_are_counted() -> None:
    prices = {"prompt": 1000.0, "completion": 10000.0, "cached": 100.0}
    with serving(lambda number, body: "fine") as server:
        model = made(server.url, prices=prices)
        ask(model, "a", "b")
    assert model.spending.counts() == {
        "requests": 2, "prompt_tokens": 20, "completion_tokens": 8, "reasoning_tokens": 6, "cached_tokens": 4,
        "cost": pytest.approx((16 * 1000 + 4 * 100 + 8 * 10000) / 1e6),
    }  # fmt: skip
    assert model.spending.line() == ("2 requests, 20 prompt + 8 completion tokens (4 cached, 6 reasoning), cost 0.0964")


@pytest.mark.parametrize(
    ("budget", "answered", "left"),
    [({"requests": 3}, 3, 5), ({"tokens": 30}, 3, 5), ({"cost": 0.00003}, 3, 5)],
)
def test_a_budget_stops_in_one_line_and_the_same_stage_goes_on_when_it_is_raised(
    tmp_path: Path, budget: dict[str, Any], answered: int, left: int
) -> None:
    texts = [f"text {i}" for i in range(answered + left)]
    prices = {"prompt": 1.0, "completion": 1.0}
    with serving(lambda number, body: "fine") as server:
        fields = {"prices": prices, "concurrency": 1}
        for _ in range(2):  # starting again does not spend the budget again
            with pytest.raises(UserError, match=r"^stages\.refine\.chain\.budget\.\w+: .*reached \(3 requests, .*rais"):
                ask(made(server.url, tmp_path, budget=budget, **fields), *texts)
            assert len(server.bodies) == answered
        model = made(server.url, tmp_path, budget={name: value * 10 for name, value in budget.items()}, **fields)
        ask(model, *texts)
    assert len(server.bodies) == answered + left
    assert (model.spending.requests, model.spending.asked_now) == (answered + left, left)


def test_a_budget_of_tokens_needs_a_server_that_counts_them() -> None:
    with (
        serving(lambda number, body: "fine", usage=None) as server,
        pytest.raises(UserError, match=r"budget\.tokens: cannot be enforced.*use budget\.requests"),
    ):
        ask(made(server.url, budget={"tokens": 1000}, concurrency=1), "a", "b")
    assert len(server.bodies) == 1


@pytest.mark.parametrize("limits", [{"requests_per_minute": 2}, {"tokens_per_minute": 30}])  # a request takes 14
def test_limits_per_minute_are_held(monkeypatch: pytest.MonkeyPatch, limits: dict[str, int]) -> None:
    clock = [1000.0]
    with serving(lambda number, body: "fine") as server:
        model = made(server.url, limits=limits, concurrency=1)
        monkeypatch.setattr("thinkling.generate.pace.time.monotonic", lambda: clock[0])
        slept: list[float] = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            clock[0] += seconds

        monkeypatch.setattr(model._pace, "sleep", sleep)
        ask(model, *"abcde")
    assert slept == [60.0, 60.0]
