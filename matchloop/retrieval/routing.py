"""Which methods answer a request, in which order, and what follows when one does not."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from matchloop.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from matchloop.entities import EntityId
    from matchloop.retrieval.scored import Hit
    from matchloop.usecase import Method, Tier, UseCase


class SkipReason(StrEnum):
    """Why a method did not fill the list."""

    MISSING = "missing"
    """No release holds it, or its part could not be loaded."""
    FAILED = "failed"
    """It raised an error; logged and counted where it did."""
    TIMED_OUT = "timed_out"
    """The request's time was up before it could be asked, or it took too long."""
    NO_SIGNAL = "no_signal"
    """It knows nothing about this subject."""
    TOO_FEW = "too_few"
    """It gave some, but fewer than were missing; they are in the list."""


@dataclass(frozen=True, slots=True)
class Skip:
    """A method that did not fill the list, and why; `found` is how many new items it gave."""

    method: Method
    reason: SkipReason
    found: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A hit and the method that found it."""

    method: Method
    hit: Hit


@dataclass(frozen=True, slots=True)
class Routed:
    """What the methods gave together.

    Parameters
    ----------
    candidates
        In method order, within a method best first; each item once, by the first method that found it.
    skipped
        Methods that were asked, or would have been, and did not fill the list; in method order.
    """

    candidates: tuple[Candidate, ...]
    skipped: tuple[Skip, ...]


def method_order(use_case: UseCase, tier: Tier, wanted: Sequence[Method] = ()) -> tuple[Method, ...]:
    """Return the methods to try: those the request names, else the tier's; each once."""
    return tuple(dict.fromkeys(wanted or use_case.methods.of(tier)))


def route(
    order: Iterable[Method],
    available: Callable[[Method], bool],
    ask: Callable[[Method, int], Sequence[Hit] | SkipReason],
    k: int,
) -> Routed:
    """Ask one method after the other until `k` different items are found.

    Parameters
    ----------
    order
        Methods, the first asked first.
    available
        Whether a method is there to be asked.
    ask
        Given a method and `k`, the method's items, best first, or why there are none. It turns its own
        faults into a reason; it may return items that an earlier method gave, which are passed over, and
        more than `k`, of which only what is missing is taken.
    k
        How many items are wanted, 0 or more.

    Returns
    -------
    Routed
        With `k` candidates, or fewer if all methods together have no more. Never raises for want of items.
    """
    if k < 0:
        raise InvalidInput(f"k is {k}, must be 0 or more")
    candidates: list[Candidate] = []
    skipped: list[Skip] = []
    seen: set[EntityId] = set()
    for method in order:
        if len(candidates) >= k:
            break
        if not available(method):
            skipped.append(Skip(method, SkipReason.MISSING))
            continue
        found = ask(method, k)
        if isinstance(found, SkipReason):
            skipped.append(Skip(method, found))
            continue
        before = len(candidates)
        _take(found, method, k, candidates, seen)
        if len(candidates) < k:
            skipped.append(Skip(method, SkipReason.TOO_FEW, found=len(candidates) - before))
    return Routed(tuple(candidates), tuple(skipped))


def _take(
    found: Sequence[Hit], method: Method, k: int, candidates: list[Candidate], seen: set[EntityId]
) -> None:
    for hit in found:
        if len(candidates) >= k:
            return
        if hit.item not in seen:
            seen.add(hit.item)
            candidates.append(Candidate(method, hit))
