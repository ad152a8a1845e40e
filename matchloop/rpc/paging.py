"""Page tokens: opaque, bound to the request they continue."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message

CHECKSUM_BYTES = 9
MAX_TOKEN_LENGTH = 2048
MAX_PAGE_BYTES = 3 * 1024 * 1024
"""A page is cut short of this: clients of gRPC take 4 MiB unless they are told otherwise."""
PAGING_FIELDS = ("page_size", "page_token")


M = TypeVar("M", bound="Message")


class BadPageToken(ValueError):  # noqa: N818
    """The token is not one that this request's first page was given."""


def fitting(messages: Iterable[M], *, most: int = MAX_PAGE_BYTES) -> list[M]:
    """Return the first messages that fit in `most` bytes, at least one; the rest are not made."""
    page: list[M] = []
    for message in messages:
        most -= message.ByteSize() + 8
        if page and most < 0:
            break
        page.append(message)
    return page


def write_page_token(request: Message, *position: str) -> str:
    """Return the token for the page after `position`.

    Parameters
    ----------
    request
        The list request; every field but `page_size` and `page_token` is bound into the token.
    position
        Where the page ended: the sort key's parts, as strings.
    """
    payload = json.dumps(position, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_checksum(request, payload) + payload).decode().rstrip("=")


def read_page_token(request: Message, token: str, *, parts: int) -> tuple[str, ...] | None:
    """Return the position in a token, None for the empty token of a first page.

    Raises
    ------
    BadPageToken
        If the token is damaged, or was given for a request that differs in more than its page size.
    """
    if not token:
        return None
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadPageToken("not a page token") from error
    checksum, payload = raw[:CHECKSUM_BYTES], raw[CHECKSUM_BYTES:]
    if len(token) > MAX_TOKEN_LENGTH or checksum != _checksum(request, payload):
        raise BadPageToken("was not given for this request")
    position = json.loads(payload)
    if len(position) != parts:
        raise BadPageToken("was given by another version")
    return tuple(position)


def _checksum(request: Message, payload: bytes) -> bytes:
    bare = type(request)()
    bare.CopyFrom(request)
    for field in PAGING_FIELDS:
        bare.ClearField(field)
    name = request.DESCRIPTOR.full_name.encode()
    digest = hashlib.blake2b(digest_size=CHECKSUM_BYTES, key=b"matchloop page")
    for part in (name, bare.SerializeToString(deterministic=True), payload):
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()
