"""What a source knows about its records beyond their text.

Annotators and the choice of seeds may use it. The labeller's features never see it: they are functions of the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

Matter = Literal["code", "prose", "unknown"]
"""What kind of text a source holds, as far as it says; `unknown`: text of the user's."""


class Truth(Protocol):
    """What is known of one record, such as the problem that a page shows and the verifier of its answer.

    Every method is given the text to judge, since an example may be the record's text or a damaged form of it.
    """

    @property
    def damage_kinds(self) -> Sequence[str]:
        """Kinds of artificial damage (`quality.damage.KINDS`) that leave something of the record to grade."""
        ...

    @property
    def damaged_one_in(self) -> int:
        """One in this many of the sound records is added to the labeller's examples in a damaged form as well."""
        ...

    @property
    def unsound_as(self) -> str:
        """Kind of damage that a record counts as if it is not sound as the source wrote it."""
        ...

    def grades(self, text: str) -> Mapping[str, float | None]:
        """Tag → grade, before rounding, of the tags that this decides; None: cannot be judged. All other tags are left
        to the annotator's own rules."""
        ...

    def sound(self, text: str) -> bool:
        """Whether everything that can be checked is right."""
        ...

    def protected_prefix(self, text: str) -> int:
        """Number of characters at the start of the text that damage of the kind `symbols` leaves alone."""
        ...
