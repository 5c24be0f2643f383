"""Problems as pages of plain text, used for pre-training and for scoring base models.

Worked: `sum A1B+5:B+5=6.6`; direct: `sum A1B+5=6`; with a tool, call and response are part of the reasoning:
`calc 47*83:47*83<tool_call>…</tool_call>\\n<tool_response>\\n3901\\n</tool_response>\\n.3901`. Each ends in a newline.
The tags are real special tokens: pages are encoded with markup.
"""

from __future__ import annotations

from thinkling.generate.hermes import call_text, response_text
from thinkling.generate.tools import resolve
from thinkling.tasks.problem import Problem


def document(problem: Problem, with_reasoning: bool = True) -> str:
    """The page of a problem: question, reasoning and answer, or question and answer."""
    if not with_reasoning:
        return f"{problem.question}={problem.answer}\n"
    return f"{document_prompt(problem)}{_reasoning(problem)}.{problem.answer}\n"


def document_prompt(problem: Problem) -> str:
    """The prompt for a base model: the page up to the start of the reasoning."""
    return f"{problem.question}:"


def document_answer(completion: str) -> str:
    """The answer in a model's continuation of `document_prompt`, up to the end of the page; empty if there is none.

    The page ends at the first newline after the last tool response; the answer follows the last full stop before it.
    """
    _, response, body = completion.rpartition("</tool_response>")
    body = body.removeprefix("\n") if response else body
    line = body.split("\n", 1)[0].split("<|endoftext|>", 1)[0]
    _, stop, answer = line.rpartition(".")
    return answer.strip() if stop else ""


def _reasoning(problem: Problem) -> str:
    if problem.call is None:
        return problem.reasoning
    tool, arguments = problem.tools[0], dict(problem.call)
    result = resolve(tool).session().run(arguments)
    return f"{problem.reasoning}{call_text(tool, arguments)}\n{response_text(result)}\n"
