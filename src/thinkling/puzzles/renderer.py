"""Puzzles as pages, the prompt format for a base model, which has seen no chat (entry point `puzzle_pages`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from thinkling.data.chat_template import OURS
from thinkling.data.reading import Call, Part, Reading
from thinkling.data.tokenizer import Tokenizer
from thinkling.generate import hermes
from thinkling.generate.renderer import Renderer, Written
from thinkling.puzzles.pages import document_answer, document_prompt
from thinkling.tasks.problem import Problem


class PageRenderer(Renderer):
    """The model continues the page: `QUESTION:` → reasoning, a full stop, the answer, a newline. Tools are never
    announced."""

    @classmethod
    def load(cls, directory: Path) -> PageRenderer:
        """A base model needs no chat template."""
        return cls(Tokenizer.load(directory), OURS)

    @property
    def calls_tools(self) -> bool:
        """A page has no turns that could end: its calls are recognised by their tokens."""
        return self.call_opening is not None and self.call_closing is not None

    def prompt_of(self, problem: Problem) -> np.ndarray:
        return self.tokenizer.encode(document_prompt(problem))

    @cached_property
    def newline_ids(self) -> frozenset[int]:
        """Ids of tokens that contain a newline; with our pre-split they contain white space only."""
        return frozenset(i for i in range(self.tokenizer.vocab_size) if "\n" in self.tokenizer.decode([i]))

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """A page ends at its first newline or at the end of text."""
        return self.newline_ids | {self.tokenizer.end_of_text_id}

    @cached_property
    def call_stop_ids(self) -> frozenset[int]:
        """A newline inside a call does not end the page."""
        return self.stop_ids - self.newline_ids

    def tool_turn(self, results: Sequence[str], calls: Sequence[Call] = ()) -> list[int]:
        """The response inside the page. The result is plain text: nothing in it becomes a tag."""
        pieces: list[tuple[str, bool]] = []
        for result in results:
            pieces += [("\n<tool_response>", True), (f"\n{result}\n", False), ("</tool_response>\n", True)]
        return [int(i) for text, markup in pieces for i in self.tokenizer.encode(text, markup=markup)]

    def read(self, completion: Written) -> Reading:
        """The answer follows the last full stop of the line after the last response."""
        text = self.tokenizer.decode(completion.tokens)
        page = text.partition(self.tokenizer.decode([self.tokenizer.end_of_text_id]))[0]
        reasoning, answer = page.rpartition(".")[0], document_answer(text)
        readable = bool(answer) and not any(tag in answer for tag in ("<think>", hermes.OPENING))
        parts = [Part("reasoning", reasoning)] if reasoning.strip() else []
        if readable:
            parts.append(Part("answer", answer))
        calls = tuple(hermes.take_calls(self._split_tags(completion.tokens))[1])
        return Reading(reasoning, answer if readable else None, calls, readable, text, tuple(parts))


class AnswerRenderer(PageRenderer):
    """The model continues a page without reasoning: `QUESTION=` → the answer, a newline (entry point
    `puzzle_answers`). Shows what a base model solves without reasoning."""

    @property
    def calls_tools(self) -> bool:
        return False

    def prompt_of(self, problem: Problem) -> np.ndarray:
        return self.tokenizer.encode(f"{problem.question}=")

    def read(self, completion: Written) -> Reading:
        """The answer is the whole line."""
        text = self.tokenizer.decode(completion.tokens)
        answer = text.partition("\n")[0].partition(self.tokenizer.decode([self.tokenizer.end_of_text_id]))[0].strip()
        return Reading("", answer or None, (), bool(answer), text, (Part("answer", answer),) if answer else ())
