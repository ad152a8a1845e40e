"""Putting one value into a request, by path; naming that path as violations do."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message


def put(request: Message, path: str, given: Any) -> None:
    """Put a value at a path (in the first entry of what is repeated); None leaves the field out."""
    *outer, last = path.split(".")
    message: Any = request
    for name in outer:
        message = getattr(message, name)
        if hasattr(message, "add"):
            message = message[0]
    if given is None:
        message.ClearField(last)
        return
    field = message.DESCRIPTOR.fields_by_name[last]
    if field.is_repeated:
        message.ClearField(last)
        getattr(message, last).extend(given)
    elif field.message_type is not None:
        getattr(message, last).CopyFrom(given)
    else:
        setattr(message, last, given)


def fields_of(request: Message, path: str) -> str:
    """Return a path as violations name it: with the index of the entry that `put` changes."""
    found: list[str] = []
    message: Any = request
    *outer, last = path.split(".")
    for name in outer:
        message = getattr(message, name)
        if hasattr(message, "add"):
            message = message[0]
            found.append(f"{name}[0]")
        else:
            found.append(name)
    return ".".join([*found, last])
