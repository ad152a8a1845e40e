"""Where a list came from: what was logged when it was served, and the data of the release that made it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from ranking_svc.domain import Explanation, ListItem, Trace

if TYPE_CHECKING:
    from ranking_svc.domain import Session
    from ranking_svc.releases import Releases


class SessionSource(Protocol):
    """Where sessions are kept."""

    def session(self, session_id: str) -> tuple[Session, bool]:
        """Return a session and whether it was a client's own list; raises NotFound."""


@dataclass(frozen=True, slots=True)
class Tracer:
    """Traces lists; the data of a release is known while the release is loaded here."""

    sessions: SessionSource
    releases: Releases

    def trace(self, session_id: str) -> Trace:
        """Return where a list came from.

        Raises
        ------
        NotFound
            If the session has not arrived at the store.
        """
        session, client_list = self.sessions.session(session_id)
        trace = Trace(
            session, tuple(_explained(session, item) for item in session.items), client_list=client_list
        )
        manifest = self.releases.manifest(session.use_case, session.release) if session.release else None
        if manifest is None:
            return trace
        watermark = manifest.snapshot.watermark
        return replace(
            trace,
            data_manifest_sha256=manifest.snapshot.manifest_sha256,
            snapshot_watermark=int(watermark) if watermark.isdecimal() else 0,
            release_create_time=manifest.created,
        )


def _explained(session: Session, item: ListItem) -> ListItem:
    """Return the item with its logged features as explanation; retrieval's raw score is not logged."""
    if not item.features:
        return item
    features = tuple(zip(session.feature_names, item.features, strict=True))
    explanation = Explanation(features, (), 0.0, dict(features).get("original_score", 0.0))
    return replace(item, explanation=explanation)
