"""One dislike from end to end: the list before, the receipt, the next list, the list after the half-life."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from matchloop.catalog.v1 import catalog_service_pb2 as catalog_pb
from matchloop.entities import Entity, EntityId, EntityKey, Kind, discrete_values
from matchloop.feedback.v1 import dislike_pb2, interaction_pb2
from matchloop.feedback.v1 import feedback_service_pb2 as feedback_pb
from matchloop.ranking.v1 import ranking_service_pb2 as ranking_pb
from matchloop.rpc.convert import entity_to_proto, timestamp
from playground.clocked import CALL_SECONDS

if TYPE_CHECKING:
    from matchloop.candidate.v1.candidate_pb2 import Contribution
    from matchloop.ranking.v1.recommendation_pb2 import RankedItem
    from playground.clocked import ClockedServices
    from playground.dislikes.catalogues import Catalogue


@dataclass(frozen=True, slots=True)
class Shown:
    """A list with its explanations, by item id, best first."""

    session_id: str
    items: dict[str, RankedItem]

    def content(self, item_id: str) -> dict[str, Contribution]:
        """Return what each item feature (and ``embedding``) adds to an item's content score."""
        parts = self.items[item_id].explanation.contributions
        return {part.field.partition("~")[2] or part.field: part for part in parts}

    def content_score(self, item_id: str) -> float:
        """Return an item's content score: the sum of what its features add."""
        return sum(part.amount for part in self.content(item_id).values())


@dataclass(frozen=True, slots=True)
class Story:
    """One dislike and the three lists around it."""

    subject_id: str
    reason: str
    before: Shown
    receipt: dislike_pb2.DislikeReceipt
    next: Shown
    later: Shown

    @property
    def lists(self) -> tuple[Shown, Shown, Shown]:
        """The lists in the order of time."""
        return self.before, self.next, self.later


class Teller:
    """Plays dislikes on running services.

    Parameters
    ----------
    services
        With the catalogue's items in no other use.
    """

    def __init__(self, services: ClockedServices, catalogue: Catalogue) -> None:
        self._services = services
        self.catalogue = catalogue
        self.use_case = services.use_cases[catalogue.use_case]

    def load(self) -> None:
        """Store the items and wait until they can be recommended."""
        self._upsert(*self.catalogue.items)
        self._services.wait_for_items(self.use_case.id, len(self.catalogue.items))

    def arrive(self, subject_id: str) -> None:
        """Let somebody come who liked what the catalogue says."""
        self._upsert(
            Entity(EntityKey(Kind(self.use_case.subject), EntityId(subject_id)), self.catalogue.subject)
        )
        now = timestamp(self._services.clock())
        self._services.clients.feedback.RecordInteractions(
            feedback_pb.RecordInteractionsRequest(
                interactions=[
                    interaction_pb2.Interaction(
                        interaction_id=f"{subject_id}-{item_id}",
                        use_case=self.use_case.id,
                        subject_id=subject_id,
                        item_id=item_id,
                        event_type="like",
                        event_time=now,
                    )
                    for item_id in self.catalogue.liked
                ]
            ),
            timeout=CALL_SECONDS,
        )

    def show(self, subject_id: str) -> Shown:
        """Ask ranking_svc for a list of all items, explained."""
        reply = self._services.clients.ranking.Recommend(
            ranking_pb.RecommendRequest(
                use_case=self.use_case.id,
                subject_id=subject_id,
                count=len(self.catalogue.items),
                explain=True,
            ),
            timeout=CALL_SECONDS,
        )
        assert not reply.degraded, reply.degraded
        return Shown(reply.session_id, {item.item_id: item for item in reply.items})

    def dislike(
        self, subject_id: str, item_id: str, reason: str, *, session_id: str = "", comment: str = ""
    ) -> dislike_pb2.DislikeReceipt:
        """Reject an item, now; its score is looked up in the session."""
        return self._services.clients.feedback.RecordDislike(
            feedback_pb.RecordDislikeRequest(
                dislike=dislike_pb2.Dislike(
                    dislike_id=f"{subject_id}-{reason}-{item_id}",
                    use_case=self.use_case.id,
                    subject_id=subject_id,
                    item_id=item_id,
                    reason=reason,
                    comment=comment,
                    session_id=session_id,
                )
            ),
            timeout=CALL_SECONDS,
        ).receipt

    def tell(self, reason: str, half_life: timedelta) -> Story:
        """Play one reason with a subject of its own; the clock stands `half_life` later afterwards."""
        subject_id = f"who-says-{reason}"
        self.arrive(subject_id)
        before = self.show(subject_id)
        receipt = self.dislike(subject_id, self.catalogue.disliked, reason, session_id=before.session_id)
        following = self.show(subject_id)
        self._services.clock.advance(half_life)
        return Story(subject_id, reason, before, receipt, following, self.show(subject_id))

    def most_alike(self, story: Story) -> str:
        """Return the item of the next list to look at: the one that shares most of what was cut."""
        features = [change.feature for change in story.receipt.weight_changes]
        rejected = self.catalogue.by_id[self.catalogue.disliked].features

        def shared(item_id: str) -> tuple[int, int]:
            own = self.catalogue.by_id[item_id].features
            common = {
                name: len({*discrete_values(own.get(name))} & {*discrete_values(value)})
                for name, value in rejected.items()
            }
            return sum(common[name] for name in features), sum(common.values())

        return max(story.next.items, key=shared)

    def _upsert(self, *entities: Entity) -> None:
        self._services.clients.catalog.UpsertEntities(
            catalog_pb.UpsertEntitiesRequest(entities=[entity_to_proto(entity) for entity in entities]),
            timeout=CALL_SECONDS,
        )
