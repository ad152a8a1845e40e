"""Following a list of changes by its change sequence, and noticing when it is another list."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Changed(Protocol):
    """What is listed by change sequence."""

    @property
    def change_sequence(self) -> int:
        """Grows with every change."""
        ...


T = TypeVar("T", bound=Changed)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list ordered by change sequence.

    Parameters
    ----------
    next_page_token
        Empty on the last page.
    next_change_sequence
        Where to go on from later; the last page's covers the whole listing.
    """

    items: tuple[T, ...]
    next_page_token: str
    next_change_sequence: int


class ListReplaced(Exception):  # noqa: N818 - a statement about the other side, not a fault of ours
    """The list is not the one that was followed: its store was replaced, or restored to an earlier state."""


class Feed(Generic[T]):
    """Reads what changed since the last complete pass.

    Parameters
    ----------
    fetch
        From (from_change_sequence, page_token) to a page.
    name
        What names an item of the list.
    """

    def __init__(self, fetch: Callable[[int, str], Page[T]], name: Callable[[T], str]) -> None:
        self._fetch = fetch
        self._name = name
        self._next = 0
        self._latest: tuple[int, str] | None = None

    def rewind(self) -> None:
        """Start over: the next pass reads the whole list."""
        self._next = 0
        self._latest = None

    @property
    def position(self) -> tuple[int, tuple[int, str] | None]:
        """Where the next pass goes on, for `resume`."""
        return self._next, self._latest

    def resume(self, position: tuple[int, tuple[int, str] | None]) -> None:
        """Go on from a position of an earlier feed; the next pass must verify that the list is the same."""
        self._next, self._latest = position

    def forget(self, name: str) -> None:
        """Do not look for this item when verifying: it was erased."""
        if self._latest is not None and self._latest[1] == name:
            self._latest = None

    def changes(self, *, verify: bool) -> Iterator[tuple[T, ...]]:
        """Yield the changes page by page; a pass that is not finished is repeated by the next one.

        Parameters
        ----------
        verify
            Read the latest item seen so far again: it must still be listed, or this is another list. Costs
            the items that share its sequence.

        Raises
        ------
        ListReplaced
            After the last page, if the sequence went backwards or the latest item is gone.
        """
        latest = self._latest
        start = self._next
        sought = None
        if verify and latest is not None:
            start, sought = min(start, latest[0]), latest[1]
        for page in self._pages(start):
            for item in page.items:
                name = self._name(item)
                sought = None if name == sought else sought
                if latest is None or item.change_sequence >= latest[0]:
                    latest = (item.change_sequence, name)
            yield page.items
        if sought is not None or page.next_change_sequence < self._next:
            raise ListReplaced
        self._next = page.next_change_sequence
        self._latest = latest

    def _pages(self, start: int) -> Iterator[Page[T]]:
        """Yield all pages; while one is looked at, the next is fetched."""
        with ThreadPoolExecutor(1, thread_name_prefix="feed") as ahead:
            page = self._fetch(start, "")
            while page.next_page_token:
                following = ahead.submit(self._fetch, start, page.next_page_token)
                yield page
                page = following.result()
            yield page
