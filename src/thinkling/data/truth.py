"""The ground truth that a source provides about its records, in addition to their text.

Annotators and the selection of seeds may use the ground truth. The labeller's features never do, because they are
functions of the text alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

Matter = Literal["code", "prose", "unknown"]
"""The kind of text that a source provides. `unknown` is used for text supplied by the user."""


class Truth(Protocol):
    """The ground truth about one record, such as the problem on a page and the verifier of its answer.

    Every method receives the text to judge, which can be the record's own text or an artificially damaged form of that
    text.
    """

    @property
    def damage_kinds(self) -> Sequence[str]:
        """Kinds of artificial damage (`quality.damage.KINDS`) after which the record can still be graded."""
        ...

    @property
    def damaged_one_in(self) -> int:
        """Inverse of the fraction of sound records that are also added to the labeller's examples in damaged form."""
        ...

    @property
    def unsound_as(self) -> str:
        """Kind of damage that is recorded for a record whose original text is not sound."""
        ...

    def grades(self, text: str) -> Mapping[str, float | None]:
        """Returns the grades, before rounding, of the tags that the ground truth determines.

        A grade is None if the tag cannot be judged. All other tags are graded by the annotator's own rules.
        """
        ...

    def sound(self, text: str) -> bool:
        """Returns whether everything in the text that can be checked is correct."""
        ...

    def protected_prefix(self, text: str) -> int:
        """Returns the number of characters at the start of the text that damage of kind `symbols` must not change."""
        ...
