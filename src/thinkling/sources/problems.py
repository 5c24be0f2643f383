"""Source type for the user's own problems, in a published format (`preset`) or a format described by `fields`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from thinkling.errors import UserError
from thinkling.sources import templates
from thinkling.sources.base import Offer
from thinkling.sources.presets import PRESETS, preset
from thinkling.sources.presets import choice as choice_preset
from thinkling.sources.presets.base import BOXED_ANSWER, BOXED_TEMPLATE, CODE_ANSWER, Preset
from thinkling.sources.records import RecordsSource
from thinkling.tasks.problem import Problem, Split

if TYPE_CHECKING:
    from thinkling.data.conversations import Conversation
    from thinkling.data.ledger import Ledger
    from thinkling.sources.problem_set import Division, Entry, ProblemSet

READER_VERSION = 5
"""Version of the reading code, part of the hash of the stages that use the source. Increment it whenever the same file
would yield different problems."""
TEMPLATES = {"maths": BOXED_TEMPLATE, "choice": choice_preset.TEMPLATE}
ANSWER_TEMPLATES = {"maths": BOXED_ANSWER, "choice": BOXED_ANSWER, "program": CODE_ANSWER}
"""Default templates by verifier, used if the preset has no template of its own."""


class ProblemsSource(RecordsSource):
    """Problems with checkable answers. Problems with known solutions can also be used as training conversations."""

    type: Literal["problems"]
    preset: str | None = None
    """The published format of the records: gsm8k, math, aime, mbpp, humaneval, choice, gpqa, mmlu_pro, apps,
    livecodebench, leetcode, or the name of an entry point in the group `thinkling.presets`. Without a preset, `fields`
    must describe the format."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Maps each part of a problem (question, answer, solution, system, id, family, tests, hidden_tests, setup, choices)
    to its key in the record. Nested keys are joined by dots. Overrides the preset's own keys."""
    verifier: str | None = None
    """Name of the verifier that judges the answers: a built-in verifier, or an entry point in the group
    `thinkling.verifiers`. If not set, the preset's verifier is used. Without a preset, the default is `choice` if
    `fields` maps choices, `program` if `fields` maps tests, and `maths` otherwise."""
    tools: list[str] = Field(default_factory=list)
    """Names of the tools that the model may call while solving a problem."""
    announce_tools: bool = True
    """Whether prompts list the tools with their schemas."""
    calculator_calls: bool = False
    """Whether to convert annotations in the solutions, such as `<<48/2=24>>`, to calculator calls in training
    conversations (only for the preset gsm8k). If true, the calculator is added to the tools."""
    system: str = ""
    """System message for problems whose record has no system message. If empty, such a problem has no system
    message."""
    template: str | None = None
    """Template of the prompt. `{question}` and any other `{key}` of the record are replaced. All other braces are left
    unchanged, so `{question}\\nPut the final answer in \\boxed{}.` works as written. If not set, the template of the
    preset or verifier is used."""
    answer_template: str | None = None
    """Template of the answer in training conversations. It must contain `{answer}` and have a form that the verifier
    accepts. For example, `\\boxed{{answer}}` puts the answer in a box. If not set, the template of the preset or
    verifier is used."""
    heldout_paths: list[str] = Field(default_factory=list)
    """Files, directories, patterns or Hub names whose problems are all held out, such as a published test set."""
    heldout_split: str | None = None
    """Name of the split that is held out, such as `test`. It is read from the same paths as the training split."""
    heldout_field: str | None = None
    """Key of the record whose value decides whether the problem is held out; requires `heldout_values`."""
    heldout_values: list[str | int | float] = Field(default_factory=list)
    """Values of `heldout_field` for which a problem is held out."""
    heldout_fraction: float | None = Field(default=None, ge=0, le=1)
    """Fraction of the problems to hold out, chosen by a hash of the question. Only one of `heldout_fraction`,
    `heldout_paths`, `heldout_split` and `heldout_field` can be set. If none of these fields is set, the fraction is
    0.1. Set `heldout_fraction` to 1 for problems that are used only for evaluation."""
    heldout_limit: int | None = Field(default=None, ge=1)
    """Maximum number of held-out problems, which are selected by `seed`. If not set, all held-out problems are used."""
    limit: int | None = Field(default=None, ge=1)
    """Maximum number of training problems, which are selected by `seed`. If not set, all training problems are used."""
    seed: int = Field(default=0, ge=0)
    """Seed for the selection of problems by `heldout_limit` and `limit`, and for the order of shuffled answer options.
    It is independent of the recipe's seed, so that runs with different seeds are scored on the same problems."""

    offers: ClassVar[frozenset[Offer]] = frozenset({"problems", "conversations"})
    _loaded: tuple[Any, ProblemSet] | None = PrivateAttr(default=None)
    _counted_in: Ledger | None = PrivateAttr(default=None)
    _solved_in: Ledger | None = PrivateAttr(default=None)
    """The ledger in which the problems that yield no conversation have already been counted."""

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, name: str | None) -> str | None:
        try:
            preset(name)
        except UserError as error:
            raise ValueError(str(error)) from error
        return name

    @field_validator("template", "answer_template")
    @classmethod
    def _readable_template(cls, template: str | None, info: Any) -> str | None:
        if template is not None:
            answer = info.field_name == "answer_template"
            templates.check(template, "answer" if answer else "question", ("answer",) if answer else None)
        return template

    @model_validator(mode="after")
    def _form_is_known(self) -> Self:
        if self.preset is None and not self.fields:
            known = ", ".join(PRESETS.names())
            raise ValueError(f"preset: not set; choose one of {known}, or map the keys of a record in fields")
        meanings = self._preset.keys
        for meaning in self.fields:
            if meaning not in meanings:
                raise ValueError(f"fields.{meaning}: unknown part of a problem; use one of {', '.join(meanings)}")
        if self.calculator_calls and not self._preset.calculator_calls:
            raise ValueError(
                "calculator_calls: supported only by the preset gsm8k, whose solutions annotate calculations; remove "
                "calculator_calls"
            )
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        from thinkling.generate.tools import TOOLS
        from thinkling.verify.registry import VERIFIERS

        for field, names, registry in (("verifier", [self._verifier], VERIFIERS), ("tools", self.tools, TOOLS)):
            for name in names:
                if name not in registry:
                    raise ValueError(
                        f"{field}: unknown {registry.what} {name!r}; use one of {', '.join(registry.names())}"
                    )
        return self

    @model_validator(mode="after")
    def _one_way_to_hold_out(self) -> Self:
        ways = {
            "heldout_paths": bool(self.heldout_paths),
            "heldout_split": self.heldout_split is not None,
            "heldout_field": self.heldout_field is not None,
            "heldout_fraction": self.heldout_fraction is not None,
        }
        given = [name for name, is_given in ways.items() if is_given]
        if len(given) > 1:
            raise ValueError(f"{given[1]}: {given[0]} already defines the held-out problems; set only one of the two")
        if (self.heldout_field is None) != (not self.heldout_values):
            raise ValueError("heldout_field: set heldout_field and heldout_values together")
        if self.heldout_split is not None and self.split is None:
            raise ValueError(
                f"split: not set; heldout_split holds out {self.heldout_split!r}, so set split to the training split"
            )
        return self

    @property
    def _preset(self) -> Preset:
        return preset(self.preset)

    @property
    def _verifier(self) -> str:
        if self.verifier is not None:
            return self.verifier
        if self.preset is None and "choices" in self.fields:
            return "choice"
        return (
            "program" if self.preset is None and {"tests", "hidden_tests"} & set(self.fields) else self._preset.verifier
        )

    def _template_of(self, given: str | None, own: str, by_verifier: dict[str, str], plain: str) -> str:
        if given is not None:
            return given
        preset_fits = self.preset is not None and self._verifier == self._preset.verifier
        return own if preset_fits else by_verifier.get(self._verifier, plain)

    def verifiers(self) -> frozenset[str]:
        return frozenset({self._verifier})

    def tool_names(self) -> frozenset[str]:
        return frozenset(self._tools)

    @property
    def _tools(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.tools, *(["calculator"] if self.calculator_calls else [])]))

    def digests(self) -> dict[str, Any]:
        return super().digests() | self.digests_of(self._heldout_found()) | {"reader": READER_VERSION}

    def _heldout_found(self) -> list[Any]:
        if self.heldout_split is not None:
            return self.find(self.entries(), self.heldout_split)
        return self.find(self.heldout_paths, None) if self.heldout_paths else []

    def summary(self) -> str:
        found = self._set()
        return (
            f"{len(found.train)} training problems, {len(found.heldout)} held out, verifier {self._verifier}"
            f"{found.reasons()}"
        )

    def check(
        self, offer: Offer, split: Split | None = None, n: int | None = None, families: Sequence[str] | None = None
    ) -> None:
        if offer == "problems":
            self._take(split or "train", n, families)
        else:
            self._solved(n, families)

    def problems(
        self, split: Split, n: int | None = None, seed: int = 0, families: Sequence[str] | None = None
    ) -> list[Problem]:
        """Returns the problems in file order.

        The `n` problems are spread over the families as evenly as the sizes of the families allow.
        """
        from thinkling.sources.problem_set import drawn

        found = self._take(split, n, families)
        self._count()
        return [entry.problem for entry in drawn(found, n if split == "train" else None, seed)]

    def conversations(self, n: int | None, seed: int, families: Sequence[str] | None = None) -> Iterator[Conversation]:
        """Yields the question, reasoning and answer of each training problem with a known solution."""
        from thinkling.sources.problem_set import drawn
        from thinkling.sources.solutions import conversation

        found = drawn(self._solved(n, families), n, seed)
        self._count()
        self._count_unsolved()
        template = self._template_of(self.answer_template, self._preset.answer_template, ANSWER_TEMPLATES, "{answer}")
        for entry in found:
            yield conversation(self.name, entry, template, self.calculator_calls)

    def _set(self) -> ProblemSet:
        """Returns the problems of the files. The result is cached within the process until a file changes."""
        from thinkling.sources.problem_set import Reading, load

        files, heldout = self.files(), [file for found in self._heldout_found() for file in found.files]
        if twice := sorted(set(files) & set(heldout)):
            raise UserError(
                f"sources.{self.name}: {twice[0]} is used for both training and held-out problems; use it for only one"
            )
        state = [(str(file), *_state(file)) for file in files + heldout]
        if self._loaded is None or self._loaded[0] != state:
            reading = Reading(
                source=self.name,
                preset=self._preset,
                fields=self.fields,
                family=self.preset or self.name,
                verifier=self._verifier,
                template=self._template_of(self.template, self._preset.template, TEMPLATES, "{question}"),
                system=self.system,
                tools=self._tools,
                announce_tools=self.announce_tools,
                seed=self.seed,
            )
            self._loaded = state, load(reading, self.read(files), self.read(heldout), self._division())
        return self._loaded[1]

    def _division(self) -> Division:
        from thinkling.sources.problem_set import by_field, by_hash

        if self.heldout_field is not None:
            return by_field(self.heldout_field, self.heldout_values)
        return by_hash(0.0 if self.heldout_paths or self.heldout_split is not None else self.heldout_fraction)

    def _take(self, split: Split, n: int | None, families: Sequence[str] | None) -> list[Entry]:
        """Returns the problems of a split and its families. Raises UserError if there are none, or fewer than `n`."""
        from thinkling.sources.problem_set import drawn

        found = self._set()
        most = self.limit if split == "train" else self.heldout_limit
        return self._enough(drawn(found.of(split), most, self.seed), _KINDS[split], n, families)

    def _solved(self, n: int | None, families: Sequence[str] | None) -> list[Entry]:
        solved = [entry for entry in self._take("train", None, families) if self._is_solved(entry.problem)]
        return self._enough(solved, "training problems with a known solution", n, None)

    def _is_solved(self, problem: Problem) -> bool:
        return bool(problem.reasoning or (self._preset.answer_is_solution and problem.answer))

    def _enough(self, entries: list[Entry], kind: str, n: int | None, families: Sequence[str] | None) -> list[Entry]:
        where, there = f"sources.{self.name}", list(dict.fromkeys(entry.problem.family for entry in entries))
        for family in families or ():
            if family not in there:
                listed = ", ".join(there) or "none"
                raise UserError(f"{where}: no {kind} in the family {family!r}; available families: {listed}")
        chosen = [entry for entry in entries if families is None or entry.problem.family in families]
        if not chosen or len(chosen) < (n or 0):
            wanted = f", but {n} were requested; request fewer" if chosen else f"; {_CURES[kind]}"
            raise UserError(f"{where}: the source has {len(chosen)} {kind}{wanted}{self._set().reasons()}")
        return chosen

    def _count(self) -> None:
        """Counts the records in the stage's ledger, only once per stage."""
        if self._counted_in is self.ledger:
            return
        self._counted_in, found = self.ledger, self._set()
        self.ledger.keep(self.name, len(found.train) + len(found.heldout))
        for one in found.rejected:
            self.ledger.reject(self.name, one.where, one.reason, one.record)

    def _count_unsolved(self) -> None:
        """Counts the problems that yield no conversation as rejected, only once per stage."""
        if self._solved_in is self.ledger:
            return
        self._solved_in = self.ledger
        unsolved = [entry for entry in self._set().train if not self._is_solved(entry.problem)]
        self.ledger.keep(self.name, -len(unsolved))
        for entry in unsolved:
            self.ledger.reject(self.name, entry.problem.id, "no solution", entry.problem.question)


_KINDS: dict[Split, str] = {"train": "training problems", "heldout": "held-out problems"}
_CURES = {
    "training problems": "lower heldout_fraction, or change heldout_paths",
    "held-out problems": "add files to heldout_paths, or raise heldout_fraction",
    "training problems with a known solution": "set fields.solution to the key of the solutions",
}


def _state(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns
