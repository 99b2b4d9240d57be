"""Hypothesis strategies for messages, made from the types themselves: a new field is tested without a word here."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from msgspec import inspect

from agentwrap_protocol import KINDS, Message
from agentwrap_protocol.codec import DTYPES


def examples(count: int) -> settings:
    """Try so many examples, however long they take: a busy machine is no failure."""
    return settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])


#: Entries of a collection: few, for what matters is none, one and several.
MOST = 3

array_values = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)


def _integers(type_: Any) -> st.SearchStrategy[int]:
    return st.integers(type_.ge if type_.ge is not None else -(2**63), type_.le if type_.le is not None else 2**64 - 1)


def _floats(type_: Any) -> st.SearchStrategy[float]:
    bounded = (type_.ge, type_.gt, type_.le) != (None, None, None)
    return st.floats(
        type_.ge if type_.ge is not None else type_.gt,
        type_.le,
        exclude_min=type_.gt is not None,
        allow_nan=not bounded,
    )


def _texts(type_: Any) -> st.SearchStrategy[str]:
    if type_.pattern is not None:
        return st.from_regex(type_.pattern)
    return st.text(max_size=8)


class _Builder:
    """Strategies by type. Structs are kept, for spaces and arguments contain themselves."""

    def __init__(self) -> None:
        self._structs: dict[type, st.SearchStrategy[Any]] = {}

    def build(self, type_: inspect.Type) -> st.SearchStrategy[Any]:
        match type_:
            case inspect.Metadata():
                return self.build(type_.type)
            case inspect.NoneType():
                return st.none()
            case inspect.BoolType():
                return st.booleans()
            case inspect.IntType():
                return _integers(type_)
            case inspect.FloatType():
                return _floats(type_)
            case inspect.StrType():
                return _texts(type_)
            case inspect.LiteralType():
                return st.sampled_from(type_.values)
            case inspect.UnionType():
                return st.one_of([self.build(member) for member in type_.types])
            case inspect.VarTupleType():
                items = self.build(type_.item_type)
                return st.lists(items, min_size=type_.min_length or 0, max_size=MOST).map(tuple)
            case inspect.DictType():
                return st.dictionaries(self.build(type_.key_type), self.build(type_.value_type), max_size=MOST)
            case inspect.StructType():
                return self._struct(type_)
            case inspect.CustomType() if type_.cls is np.ndarray:
                return array_values
        raise TypeError(f"no strategy for {type_}")

    def _struct(self, type_: inspect.StructType) -> st.SearchStrategy[Any]:
        if type_.cls not in self._structs:
            self._structs[type_.cls] = st.deferred(lambda: built)
            fields = {field.name: self.build(field.type) for field in type_.fields}
            built = st.builds(type_.cls, **fields)
        return self._structs[type_.cls]


_builder = _Builder()

#: Messages of one kind, by kind.
by_kind: dict[str, st.SearchStrategy[Message]] = {
    kind: _builder.build(inspect.type_info(cls)) for kind, cls in KINDS.items()
}


def content(message: Message) -> tuple[str, bytes, dict[str, tuple[str, tuple[int, ...], bytes]]]:
    """What a message says, in a form that can be compared, NaN included."""
    fields = {**msgspec.structs.asdict(message), "arrays": None}
    arrays = {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in message.arrays.items()}
    return message.kind, msgspec.msgpack.encode(fields), arrays
