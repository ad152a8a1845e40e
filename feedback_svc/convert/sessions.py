"""Messages about lists that were shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from itertools import chain
from typing import NamedTuple

from feedback_svc.convert.shared import (
    METHOD_NUMBERS,
    METHODS,
    TIER_NUMBERS,
    TIERS,
    Schema,
    filter_from,
    known,
)
from feedback_svc.sessions import RecordFilter, Session, SessionSource, SessionsRecorded, logged
from matchloop.entities import MAX_ID_LENGTH
from matchloop.feedback.v1 import feedback_service_pb2 as calls
from matchloop.feedback.v1 import session_pb2
from matchloop.rpc.convert import timestamp
from matchloop.rpc.paging import fitting, write_page_token
from matchloop.rpc.validation import Violations

MAX_BATCH = 100
MAX_ITEMS = 200
MAX_FEATURES = 64
SOURCES = {
    session_pb2.SessionSource.Value(f"SESSION_SOURCE_{source.name}"): source for source in SessionSource
}
SOURCE_NUMBERS = {source: number for number, source in SOURCES.items()}


def sessions_to_record(
    request: calls.RecordSessionsRequest, schema: Schema, now: datetime
) -> tuple[Session, ...]:
    """Check and convert lists.

    Raises
    ------
    InvalidInput
        With every violation of every list.
    """
    violations = Violations(now=now)
    sessions: list[Session] = []
    if violations.count("sessions", request.sessions, least=1, most=MAX_BATCH):
        for index, message in enumerate(request.sessions):
            sessions.append(_session(message, violations.within(f"sessions[{index}]"), schema))
        violations.distinct("sessions", [s.session_id for s in request.sessions], part="session_id")
    violations.raise_if_any()
    return tuple(sessions)


def _session(message: session_pb2.Session, violations: Violations, schema: Schema) -> Session:
    items = message.items if violations.count("items", message.items, least=1, most=MAX_ITEMS) else []
    names = message.feature_names
    if violations.count("feature_names", names, most=MAX_FEATURES):
        for index, name in enumerate(names):
            violations.name(f"feature_names[{index}]", name)
        violations.distinct("feature_names", names)
    columns = Columns.of(items)
    if not columns.are_sound(len(names)):
        for index, item in enumerate(items):
            _check_item(item, violations.within(f"items[{index}]"), len(names))
        violations.distinct("items", columns.item_ids, part="item_id")
    violations.one_of("use_case", message.use_case, schema.use_cases)
    violations.enum("source", message.source, session_pb2.SessionSource.Name)
    time = violations.time("serve_time", message.serve_time, given=message.HasField("serve_time"))
    return Session(
        session_id=violations.identifier("session_id", message.session_id),
        use_case=message.use_case,
        subject_id=violations.identifier("subject_id", message.subject_id),
        release=violations.identifier("release", message.release, required=False),
        arm=violations.identifier("arm", message.arm, required=False),
        tier=known(violations, "tier", message.tier, TIERS),
        reranked=message.reranked,
        source=SOURCES.get(message.source, SessionSource.CLIENT),
        serve_time=time or violations.now,
        feature_names=tuple(names),
        item_ids=columns.item_ids,
        scores=columns.scores,
        methods=tuple(map(METHODS.get, columns.methods)),
        propensities=columns.propensities,
        feature_values=columns.feature_values,
        retrieval_scores=logged(columns.retrieval_scores),
    )


class Columns(NamedTuple):
    """A list's items, field by field."""

    item_ids: tuple[str, ...]
    scores: tuple[float, ...]
    methods: tuple[session_pb2.Method.ValueType, ...]
    propensities: tuple[float, ...]
    widths: set[int]
    feature_values: tuple[float, ...]
    retrieval_scores: tuple[float | None, ...]

    @classmethod
    def of(cls, items: Sequence[session_pb2.SessionItem]) -> Columns:
        """Take the items apart."""
        rows = [item.features for item in items]
        return cls(
            tuple([item.item_id for item in items]),
            tuple([item.score for item in items]),
            tuple([item.method for item in items]),
            tuple([item.propensity for item in items]),
            {len(row) for row in rows},
            tuple(chain.from_iterable(rows)),
            tuple([item.retrieval_score if item.HasField("retrieval_score") else None for item in items]),
        )

    def are_sound(self, features: int) -> bool:
        """Say whether no item has a fault, in a few steps over all of them; False when in doubt."""
        ids = self.item_ids
        return (
            bool(ids)
            and all(ids)
            and max(map(len, ids)) <= MAX_ID_LENGTH
            and "".join(ids).isprintable()
            and len(set(ids)) == len(ids)
            and all(method in METHODS for method in self.methods)
            and min(self.propensities) >= 0.0
            and max(self.propensities) <= 1.0
            and self.widths == {features}
            and math.isfinite(sum(self.scores) + sum(self.propensities) + sum(self.feature_values))
            and math.isfinite(sum(filter(None, self.retrieval_scores)))
        )


def _check_item(item: session_pb2.SessionItem, violations: Violations, features: int) -> None:
    violations.identifier("item_id", item.item_id)
    violations.number("score", item.score)
    known(violations, "method", item.method, METHODS)
    violations.number("propensity", item.propensity, least=0.0, most=1.0)
    if item.HasField("retrieval_score"):
        violations.number("retrieval_score", item.retrieval_score)
    if len(item.features) != features:
        violations.add("features", f"has {len(item.features)} values, but feature_names has {features}")
    violations.numbers("features", item.features)


def sessions_reply(recorded: SessionsRecorded) -> calls.RecordSessionsResponse:
    """Convert what recording lists did."""
    return calls.RecordSessionsResponse(
        stored=recorded.stored,
        duplicate_session_ids=recorded.duplicates,
        tied_interactions=recorded.tied,
    )


def session_id_of(request: calls.GetSessionRequest, now: datetime) -> str:
    """Check the id of one session."""
    violations = Violations(now=now)
    session_id = violations.identifier("session_id", request.session_id)
    violations.raise_if_any()
    return session_id


def sessions_page(
    request: calls.ListSessionsRequest, now: datetime
) -> tuple[RecordFilter, tuple[datetime, str] | None, int]:
    """Check and convert a listing: the filter, where it starts, and the page size."""
    violations = Violations(now=now)
    which = filter_from(request, violations)
    limit = violations.page_size(request.page_size, default=50, most=500)
    position = violations.page_token(request, request.page_token, parts=2)
    violations.raise_if_any()
    return which, (datetime.fromisoformat(position[0]), position[1]) if position else None, limit


def sessions_page_reply(
    request: calls.ListSessionsRequest, found: Sequence[Session], limit: int
) -> calls.ListSessionsResponse:
    """Convert a page of which one more row was asked than it holds."""
    page = fitting(session_to_proto(session) for session in found[:limit])
    token = ""
    if len(found) > len(page):
        last = found[len(page) - 1]
        token = write_page_token(request, last.serve_time.isoformat(), last.session_id)
    return calls.ListSessionsResponse(sessions=page, next_page_token=token)


def session_to_proto(session: Session) -> session_pb2.Session:
    """Convert a list."""
    width = len(session.feature_names)
    raw = session.retrieval_scores or (None,) * len(session.item_ids)
    columns = zip(session.item_ids, session.scores, session.methods, session.propensities, raw, strict=True)
    return session_pb2.Session(
        session_id=session.session_id,
        use_case=session.use_case,
        subject_id=session.subject_id,
        release=session.release,
        arm=session.arm,
        tier=TIER_NUMBERS[session.tier],
        reranked=session.reranked,
        source=SOURCE_NUMBERS[session.source],
        serve_time=timestamp(session.serve_time),
        feature_names=session.feature_names,
        items=[
            session_pb2.SessionItem(
                item_id=item_id,
                score=score,
                method=METHOD_NUMBERS[method],
                features=session.feature_values[place * width : (place + 1) * width],
                propensity=propensity,
                retrieval_score=retrieval_score,
            )
            for place, (item_id, score, method, propensity, retrieval_score) in enumerate(columns)
        ],
    )
