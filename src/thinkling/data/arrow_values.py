"""Converts values of Arrow columns to Python objects, decodes bytes in text columns, and marks values that cannot be
read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types


@dataclass(frozen=True)
class Unreadable:
    """Placeholder for a value that cannot be read. Because it has a separate type, every type check rejects it."""

    reason: str


def as_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns the batch with all binary columns cast to text, including columns nested in lists and structs.

    The cast does not validate the values: reading a value that is not UTF-8 raises UnicodeDecodeError.
    """
    columns = [_cast(column, _text) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def value(column: pa.Array) -> object:
    """Returns the value of a column with one row.

    Dates outside Python's range are converted to numbers in the unit of their type.
    """
    for changed in (_text, _number):
        try:
            return _cast(column, changed)[0].as_py()
        except UnicodeDecodeError:
            return Unreadable("not UTF-8")
        except (ValueError, OverflowError, pa.ArrowException):
            continue
    return Unreadable(f"not readable as {column.type}")


def _cast(column: pa.Array, changed: Callable[[pa.DataType], pa.DataType]) -> pa.Array:
    wanted = _changed(column.type, changed)
    return column if wanted == column.type else pc.cast(column, wanted, safe=False)


def _changed(type_: pa.DataType, changed: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """Returns the type with `changed` applied to each of its component types."""
    if types.is_dictionary(type_):
        values = _changed(type_.value_type, changed)
        return type_ if values == type_.value_type else values
    if types.is_struct(type_):
        fields = (type_.field(i) for i in range(type_.num_fields))
        return pa.struct([field.with_type(_changed(field.type, changed)) for field in fields])
    if types.is_list(type_) or types.is_large_list(type_):
        make = pa.list_ if types.is_list(type_) else pa.large_list
        return make(type_.value_field.with_type(_changed(type_.value_type, changed)))
    return changed(type_)


def _text(type_: pa.DataType) -> pa.DataType:
    if types.is_large_binary(type_):
        return pa.large_string()
    if types.is_binary(type_) or types.is_fixed_size_binary(type_) or types.is_binary_view(type_):
        return pa.string()
    return type_


def _number(type_: pa.DataType) -> pa.DataType:
    if types.is_date32(type_) or types.is_time32(type_):
        return pa.int32()
    return pa.int64() if types.is_temporal(type_) and not types.is_interval(type_) else _text(type_)
