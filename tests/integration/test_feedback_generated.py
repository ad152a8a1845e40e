"""Whatever is sent: an answer, or what is wrong; never INTERNAL, never UNKNOWN, the same of either store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matchloop.errors import Reason
from matchloop.rpc.status import from_rpc_error
from playground.postgres import EmbeddedPostgres
from tests.feedback_bounds import base
from tests.feedback_rpc_world import World, item, methods, postgres_world, rejection, session, value
from tests.generated_requests import messages, nearly_sound

pytestmark = pytest.mark.processes

METHODS = dict(methods())
EXPECTED = {
    Reason.INVALID_INPUT,
    Reason.USE_CASE_NOT_FOUND,
    Reason.ENTITY_NOT_FOUND,
    Reason.SESSION_NOT_FOUND,
    Reason.EXPERIMENT_NOT_FOUND,
    Reason.CONFLICT,
    Reason.NOT_IMPLEMENTED,
}
EXAMPLES = settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)


@pytest.fixture(scope="module")
def worlds(postgres: EmbeddedPostgres) -> Iterator[tuple[World, World]]:
    with World() as memory, postgres_world(postgres) as kept:
        yield memory, kept


def answer(world: World, method: str, request: Message) -> tuple[Reason | None, list[str]]:
    error = world.error(method, request)
    if error is None:
        return None, []
    assert error.reason in EXPECTED, (error.reason, error.message)
    fields = [violation.field for violation in error.violations]
    assert bool(fields) == (error.reason is Reason.INVALID_INPUT)
    return error.reason, fields


def sound(method: str) -> Message:
    """A request that holds a value of every sort, and is taken."""
    request: Any = base(method)
    if method == "UpsertEntities":
        features: dict[str, Any] = {
            "category": {"categorical": "fintech"},
            "tags": {"multi": {"values": ["a", "b"]}},
            "founded_year": {"numeric": 2020.0},
            "embedding": {"embedding": {"values": [0.5] * 384}},
        }
        for name, held in features.items():
            request.entities[0].features[name].CopyFrom(value(**held))
    elif method == "RecordSessions":
        items = [item("i", score=0.5, features=[0.5], propensity=0.5), item("j", score=0.25, features=[1.0])]
        request.sessions.append(session("x", feature_names=["recency"], items=items, release="r", tier=1))
    elif method == "RecordInteractions":
        request.interactions.add().CopyFrom(request.interactions[0])
        request.interactions[1].interaction_id += "-2"
        request.interactions[1].session_id = "x"
    elif method == "RecordDislike":
        request.dislike.CopyFrom(rejection(request.dislike.dislike_id, session_id="x", comment="c"))
    built: Message = request
    return built


SOUND = {method: sound(method) for method in METHODS}


@EXAMPLES
@given(st.data())
def test_what_is_made_up_is_answered_or_told(worlds: tuple[World, World], data: st.DataObject) -> None:
    method = data.draw(st.sampled_from(sorted(METHODS)))
    request = data.draw(messages(METHODS[method].DESCRIPTOR))
    memory, kept = (answer(world, method, request) for world in worlds)
    assert memory == kept


@settings(EXAMPLES, max_examples=500)
@given(st.data())
def test_one_odd_value_is_answered_or_told(worlds: tuple[World, World], data: st.DataObject) -> None:
    method = data.draw(st.sampled_from(sorted(METHODS)))
    request = data.draw(nearly_sound(SOUND[method]))
    memory, kept = (answer(world, method, request) for world in worlds)
    assert memory == kept


@settings(EXAMPLES, max_examples=100)
@given(st.sampled_from(sorted(METHODS)), st.binary(min_size=1, max_size=40))
def test_bytes_that_are_no_message_are_invalid(worlds: tuple[World, World], method: str, sent: bytes) -> None:
    kind = METHODS[method]
    service = kind.DESCRIPTOR.file.services_by_name[
        f"{kind.DESCRIPTOR.file.package.split('.')[1].title()}Service"
    ]
    call: Any = worlds[0].channel.unary_unary(f"/{service.full_name}/{method}")
    failed = call.future(sent, timeout=10).exception()
    if failed is not None:
        assert from_rpc_error(failed, upstream="feedback_svc").reason in EXPECTED
