"""The ShareGPT format: `{"conversations": [{"from", "value"}, …], "system", "tools"}`, with tools as JSON text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thinkling.data.chat_forms import messages
from thinkling.data.chat_forms.normal import Chat


def read(record: Mapping[str, Any], cut_unanswered: bool = False) -> Chat:
    """Returns a record's conversation. Raises BadRecord if it is invalid."""
    return messages.read(record, cut_unanswered, "conversations")
