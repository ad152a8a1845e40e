"""Every field of every request of CandidateService and RankingService at its stated bound, and past it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matchloop.errors import Reason
from tests.bounds import check_at_bound, check_past_bound, every_field, methods_of
from tests.candidate_bounds import BOUNDS, METHODS, base
from tests.candidate_rpc_world import ServingWorld
from tests.generated_requests import messages, nearly_sound

KINDS = dict(methods_of(*METHODS))
EXPECTED = {
    Reason.INVALID_INPUT,
    Reason.USE_CASE_NOT_FOUND,
    Reason.ENTITY_NOT_FOUND,
    Reason.SESSION_NOT_FOUND,
    Reason.EXPERIMENT_NOT_FOUND,
}
EXAMPLES = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingWorld]:
    with ServingWorld(tmp_path_factory.mktemp("world")) as made:
        yield made


def test_every_request_field_has_an_entry() -> None:
    assert every_field(KINDS.items()) == set(BOUNDS)


@pytest.mark.parametrize("entry", [entry for entry, bound in BOUNDS.items() if bound.at])
def test_at_its_bound_it_is_taken(world: ServingWorld, entry: str) -> None:
    check_at_bound(base, entry, BOUNDS[entry], world.error)


@pytest.mark.parametrize("entry", [entry for entry, bound in BOUNDS.items() if bound.past])
def test_past_its_bound_it_is_named(world: ServingWorld, entry: str) -> None:
    check_past_bound(base, entry, BOUNDS[entry], world.error)


def check(world: ServingWorld, method: str, request: object) -> None:
    error = world.error(method, request)  # type: ignore[arg-type]
    if error is not None:
        assert error.reason in EXPECTED, (error.reason, error.message)
        assert bool(error.violations) == (error.reason is Reason.INVALID_INPUT)


@EXAMPLES
@given(st.data())
def test_what_is_made_up_is_answered_or_told(world: ServingWorld, data: st.DataObject) -> None:
    method = data.draw(st.sampled_from(sorted(KINDS)))
    check(world, method, data.draw(messages(KINDS[method].DESCRIPTOR)))


@settings(EXAMPLES, max_examples=400)
@given(st.data())
def test_one_odd_value_is_answered_or_told(world: ServingWorld, data: st.DataObject) -> None:
    method = data.draw(st.sampled_from(sorted(KINDS)))
    check(world, method, data.draw(nearly_sound(base(method))))
