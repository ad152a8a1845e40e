"""Where a list came from: what was logged when it was served, and the data of the release that made it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from matchloop.errors import MatchloopError, NotFound
from matchloop.observe.logs import get_logger
from ranking_svc.domain import Explanation, ListItem, Part

if TYPE_CHECKING:
    from datetime import datetime

    from matchloop.observe.metrics import Metrics
    from matchloop.release.manifest import Manifest
    from ranking_svc.archive import Archive
    from ranking_svc.domain import Session
    from ranking_svc.releases import Releases

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a list came from.

    Parameters
    ----------
    items
        The session's, each with its features as its explanation.
    client_list
        The client showed a list of its own.
    data_manifest_sha256, snapshot_watermark, release_create_time
        Of the release's data; empty, 0 and None where no such release is known.
    degraded
        Parts that could not be asked.
    """

    session: Session
    items: tuple[ListItem, ...]
    client_list: bool = False
    data_manifest_sha256: str = ""
    snapshot_watermark: int = 0
    release_create_time: datetime | None = None
    degraded: tuple[str, ...] = ()


class SessionSource(Protocol):
    """Where sessions are kept."""

    def session(self, session_id: str) -> tuple[Session, bool]:
        """Return a session and whether it was a client's own list; raises NotFound."""


@dataclass(frozen=True, slots=True)
class Tracer:
    """Traces lists.

    Parameters
    ----------
    archive
        Knows the releases that are not loaded here; None: there is no registry.
    """

    sessions: SessionSource
    releases: Releases
    archive: Archive | None
    metrics: Metrics

    def trace(self, session_id: str) -> Trace:
        """Return where a list came from; what only the registry knows is left out while it is away.

        Raises
        ------
        NotFound
            If the session has not arrived at the store.
        """
        session, client_list = self.sessions.session(session_id)
        trace = Trace(
            session, tuple(_explained(session, item) for item in session.items), client_list=client_list
        )
        if not session.release:
            return trace
        try:
            manifest = self._manifest(session.use_case, session.release)
        except MatchloopError as error:
            _log.warning("release_unknown", release=session.release, reason=error.reason.value)
            self.metrics.degraded.labels(session.use_case, Part.REGISTRY.value).inc()
            return replace(trace, degraded=(Part.REGISTRY.value,))
        if manifest is None:
            return trace
        watermark = manifest.snapshot.watermark
        return replace(
            trace,
            data_manifest_sha256=manifest.snapshot.manifest_sha256,
            snapshot_watermark=int(watermark) if watermark.isdecimal() and len(watermark) < 19 else 0,
            release_create_time=manifest.created,
        )

    def _manifest(self, use_case: str, release: str) -> Manifest | None:
        """Return a release's manifest, from here or from the registry; None where neither knows it."""
        loaded = self.releases.manifest(use_case, release)
        if loaded is not None or self.archive is None:
            return loaded
        try:
            return self.archive.manifest(use_case, release)
        except NotFound:
            return None


def _explained(session: Session, item: ListItem) -> ListItem:
    """Return the item with its logged features and scores as explanation; none when nothing was logged."""
    if not item.features and item.retrieval_score is None:
        return item
    features = tuple(zip(session.feature_names, item.features, strict=True)) if item.features else ()
    original = dict(features).get("original_score", 0.0)
    return replace(item, explanation=Explanation(features, (), item.retrieval_score or 0.0, original))
