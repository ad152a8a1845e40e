"""Load entities and interactions through the services, with a progress bar; safe to run again."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from matchloop.catalog.v1 import catalog_service_pb2 as catalog_pb
from matchloop.feedback.v1 import feedback_service_pb2 as feedback_pb
from matchloop.feedback.v1.interaction_pb2 import Interaction
from matchloop.rpc.convert import entity_to_proto

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.random import Generator
    from rich.console import Console

    from matchloop.entities import Entity
    from playground.clients import Clients
    from playground.dataset import Dataset, Interactions
    from playground.market import Market, MarketEvent

BATCH = 500
"""Most entities or interactions the services take in one call."""

_TIMEOUT = 60.0
_Row = TypeVar("_Row")


@dataclass(slots=True)
class LoadCount:
    """What a load did: rows written, and rows that were there before."""

    stored: int = 0
    already_there: int = 0


def progress_bar(console: Console, *, transient: bool = False) -> Progress:
    """Return the progress bar of long work: what, how far, how long still."""
    return Progress(
        TextColumn("{task.description:<36}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=transient,
    )


def load_entities(
    clients: Clients, entities: Sequence[Entity], on_batch: Callable[[int], object] = lambda _: None
) -> LoadCount:
    """Upsert entities in batches; those stored as they are count as already there.

    `on_batch` is told the size of each batch once it is stored.
    """
    count = LoadCount()
    for batch in _batches(entities):
        request = catalog_pb.UpsertEntitiesRequest(entities=[entity_to_proto(entity) for entity in batch])
        reply = clients.catalog.UpsertEntities(request, timeout=_TIMEOUT)
        count.stored += reply.created + reply.updated
        count.already_there += reply.unchanged
        on_batch(len(batch))
    return count


def record_in_batches(
    clients: Clients, interactions: Iterable[Interaction], on_batch: Callable[[int], object] = lambda _: None
) -> LoadCount:
    """Record interactions in batches; their ids make a second load harmless."""
    count = LoadCount()
    for batch in _batches(interactions):
        request = feedback_pb.RecordInteractionsRequest(interactions=batch)
        reply = clients.feedback.RecordInteractions(request, timeout=_TIMEOUT)
        count.stored += reply.stored
        count.already_there += len(reply.duplicate_interaction_ids)
        on_batch(len(batch))
    return count


def load_dataset(clients: Clients, dataset: Dataset, console: Console) -> dict[str, LoadCount]:
    """Load a data set: its entities, then all its events for every use case.

    Returns
    -------
    dict
        Counts by kind and by use case, in the order they were loaded.
    """
    counts: dict[str, LoadCount] = {}
    with progress_bar(console) as progress:
        for kind, entities in dataset.entities.items():
            task = progress.add_task(f"{kind} entities", total=len(entities))
            counts[kind] = load_entities(clients, entities, lambda n, task=task: progress.advance(task, n))  # type: ignore[misc]
        for use_case in dataset.use_cases:
            interactions = dataset.interactions(use_case.id)
            task = progress.add_task(f"{use_case.id} interactions", total=len(interactions))
            counts[use_case.id] = record_in_batches(
                clients,
                _messages(interactions),
                lambda n, task=task: progress.advance(task, n),  # type: ignore[misc]
            )
    return counts


def load_market(clients: Clients, market: Market, rng: Generator, console: Console) -> dict[str, LoadCount]:
    """Load a market: its entities, then what happened in it before now; counts by kind and by use case."""
    counts: dict[str, LoadCount] = {}
    history = market.history(rng)
    with progress_bar(console) as progress:
        for kind, entities in market.entities.items():
            task = progress.add_task(f"{kind} entities", total=len(entities))
            counts[kind] = load_entities(clients, entities, lambda n, task=task: progress.advance(task, n))  # type: ignore[misc]
        for use_case in market.use_cases:
            own = [event_message(event) for event in history if event.use_case == use_case]
            task = progress.add_task(f"{use_case} interactions", total=len(own))
            counts[use_case] = record_in_batches(
                clients,
                own,
                lambda n, task=task: progress.advance(task, n),  # type: ignore[misc]
            )
    return counts


def event_message(event: MarketEvent) -> Interaction:
    """Return an organic event as it is recorded."""
    message = Interaction(
        interaction_id=event.interaction_id,
        use_case=event.use_case,
        subject_id=event.subject_id,
        item_id=event.item_id,
        event_type=event.event_type,
    )
    message.event_time.FromDatetime(event.event_time)
    return message


def _messages(interactions: Interactions) -> Iterator[Interaction]:
    for row in range(len(interactions)):
        message = Interaction(
            interaction_id=str(interactions.interaction_id[row]),
            use_case=interactions.use_case.id,
            subject_id=str(interactions.subject_id[row]),
            item_id=str(interactions.item_id[row]),
            event_type=str(interactions.event_type[row]),
        )
        if (time := interactions.time_at(row)) is not None:
            message.event_time.FromDatetime(time)
        yield message


def _batches(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, BATCH)):
        yield batch
