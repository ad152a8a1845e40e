"""Requests made up from the contract's descriptors: anything anywhere, or one odd value in a sound one."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from tests.feedback_worlds import USE_CASE

TIME = "google.protobuf.Timestamp"
FULL = 3
"""Most entries of a repeated field that is made up."""

ODD_TEXTS = [
    "",
    "\x00",
    "a\x00b",
    "\x1f",
    "\x7f",
    "\u2028",
    "\u202eabc",
    "\ufeff",
    "\uffff",
    "\U0010ffff",
    "e\u0301",
    "{}",
    '"',
    "\\",
    '{"a","b"}',
    "NULL",
    "%s%(x)s",
    "'; --",
    "x" * 128,
    "x" * 129,
    "x" * 10_000,
    "\U0001f600" * 128,
]
KNOWN_TEXTS = [
    USE_CASE,
    "startup_investor",
    "user_movie",
    "startup",
    "investor",
    "click",
    "dislike",
    "wrong_category",
    "other",
    "recency",
    "category",
    "tags",
    "name",
    "s",
    "i",
]
texts = st.one_of(
    st.sampled_from(KNOWN_TEXTS),
    st.sampled_from(ODD_TEXTS),
    st.text(st.characters(codec="utf-8"), max_size=8),
)
floats = st.one_of(
    st.sampled_from([0.0, -0.0, 0.5, 1.0, math.nan, math.inf, -math.inf, 5e-324, 1.7e308, -1.7e308]),
    st.floats(),
)
SECONDS = [0, 1_777_636_800, -2_208_988_800, -62_135_596_801, 253_402_300_800, 2**63 - 1, -(2**63)]
NANOS = [0, 1, 999_999_999, 1_000_000_000, -1, 2**31 - 1, -(2**31)]
INTEGERS: Mapping[int, tuple[int, int]] = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}


def integers(low: int, high: int) -> st.SearchStrategy[int]:
    return st.one_of(
        st.integers(max(low, -2), 7),
        st.sampled_from([low, high, high - 1, 2**31 - 1]),
        st.integers(low, high),
    )


@functools.cache
def single(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Values of one entry of a field."""
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_MESSAGE:
        return messages(field.message_type)
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return texts
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return floats
    return integers(*INTEGERS[kind])


@functools.cache
def messages(descriptor: Descriptor) -> st.SearchStrategy[Message]:
    """Messages of a type: each field left out, or made up."""
    made = GetMessageClass(descriptor)
    if descriptor.full_name == TIME:
        return st.builds(
            made,
            seconds=st.sampled_from(SECONDS) | st.integers(-(2**63), 2**63 - 1),
            nanos=st.sampled_from(NANOS),
        )

    @st.composite
    def build(draw: st.DrawFn) -> Message:
        message = made()
        for field in descriptor.fields:
            if draw(st.integers(0, 4)):
                fill(draw, message, field)
        return message

    return build()


def fill(draw: st.DrawFn, message: Any, field: FieldDescriptor) -> None:
    """Make up a field of a message."""
    held = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        for name in draw(st.lists(texts, max_size=FULL)):
            held[name].CopyFrom(draw(single(field.message_type.fields_by_name["value"])))
    elif field.is_repeated:
        message.ClearField(field.name)
        getattr(message, field.name).extend(draw(st.lists(single(field), max_size=FULL)))
    elif field.message_type is not None:
        held.CopyFrom(draw(single(field)))
    else:
        setattr(message, field.name, draw(single(field)))


@st.composite
def nearly_sound(draw: st.DrawFn, sound: Message) -> Message:
    """A sound request, one field of it made up: of the request itself or of a message in it."""
    request = type(sound)()
    request.CopyFrom(sound)
    message: Any = request
    while True:
        field = draw(st.sampled_from(list(message.DESCRIPTOR.fields)))
        inner = within(message, field) if draw(st.integers(0, 3)) else None
        if inner is None:
            fill(draw, message, field)
            return request
        message = inner


def within(message: Any, field: FieldDescriptor) -> Message | None:
    """Return the first message that a field holds, a time apart: it is a value."""
    if field.message_type is None or field.message_type.full_name == TIME:
        return None
    held = getattr(message, field.name)
    if field.message_type.GetOptions().map_entry:
        return next(iter(held.values()), None)
    if field.is_repeated:
        return held[0] if held else None
    return held if message.HasField(field.name) else None
