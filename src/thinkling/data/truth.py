"""What a source knows about its records beyond their text.

Annotators and seed selection may use it. The labeller's features never see it: they are functions of the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

Matter = Literal["code", "prose", "unknown"]
"""The kind of text a source holds, as far as it declares; `unknown`: text supplied by the user."""


class Truth(Protocol):
    """What is known about one record, such as the problem that a page shows and the verifier of its answer.

    Every method receives the text to judge, because an example may be the record's text or a damaged form of it.
    """

    @property
    def damage_kinds(self) -> Sequence[str]:
        """Kinds of artificial damage (`quality.damage.KINDS`) that leave enough of the record to grade."""
        ...

    @property
    def damaged_one_in(self) -> int:
        """One in this many valid records is also added to the labeller's examples in damaged form."""
        ...

    @property
    def unsound_as(self) -> str:
        """Kind of damage that a record counts as if its original text is not valid."""
        ...

    def grades(self, text: str) -> Mapping[str, float | None]:
        """Tag → grade, before rounding, for the tags that this determines; None: cannot be judged. All other tags are
        left to the annotator's own rules."""
        ...

    def sound(self, text: str) -> bool:
        """Whether everything that can be checked is correct."""
        ...

    def protected_prefix(self, text: str) -> int:
        """Number of characters at the start of the text that damage of kind `symbols` leaves unchanged."""
        ...
