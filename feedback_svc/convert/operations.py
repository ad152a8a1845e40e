"""Messages about leases, acts, experiments and reactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from feedback_svc.convert.shared import Schema
from feedback_svc.operations.experiments import ExperimentPosition, position_of
from feedback_svc.operations.leases import Grant
from feedback_svc.operations.reactions import Grouping, ReactionKinds, ServedLists
from matchloop.acts import Act, ActKind
from matchloop.experiments.experiment import Experiment
from matchloop.operations.v1 import act_pb2, reactions_pb2
from matchloop.operations.v1 import operations_service_pb2 as calls
from matchloop.rpc.operations import (
    ACT_KINDS,
    act_to_proto,
    experiment_to_proto,
    lease_to_proto,
    read_act_number,
)
from matchloop.rpc.paging import fitting, write_page_token
from matchloop.rpc.validation import Violations

GROUPINGS: Mapping[int, Grouping] = {
    reactions_pb2.REACTION_GROUPING_UNSPECIFIED: Grouping.ARM_AND_RELEASE,
    reactions_pb2.REACTION_GROUPING_ARM: Grouping.ARM,
    reactions_pb2.REACTION_GROUPING_RELEASE: Grouping.RELEASE,
}
MAX_LEASE_SECONDS = 86_400
MAX_REASON = 2000
MAX_NUMBERS = 64
MAX_KINDS = 16


def lease_to_acquire(request: calls.AcquireLeaseRequest, now: datetime) -> tuple[str, str, timedelta]:
    """Check and convert who asks for which lease, and for how long."""
    violations = Violations(now=now)
    name = violations.identifier("name", request.name)
    holder = violations.identifier("holder", request.holder)
    violations.number("seconds", request.seconds, least=1, most=MAX_LEASE_SECONDS)
    violations.raise_if_any()
    return name, holder, timedelta(seconds=request.seconds)


def grant_reply(grant: Grant) -> calls.AcquireLeaseResponse:
    """Convert who has the lease."""
    return calls.AcquireLeaseResponse(acquired=grant.acquired, lease=lease_to_proto(grant.lease))


def lease_to_release(request: calls.ReleaseLeaseRequest, now: datetime) -> tuple[str, str]:
    """Check who gives which lease back."""
    violations = Violations(now=now)
    name = violations.identifier("name", request.name)
    holder = violations.identifier("holder", request.holder)
    violations.raise_if_any()
    return name, holder


def act_to_record(request: calls.RecordActRequest, schema: Schema, now: datetime) -> Act:
    """Check and convert an act.

    Raises
    ------
    InvalidInput
        With every violation.
    """
    message = request.act
    violations = Violations(now=now)
    each = violations.within("act")
    each.identifier("act_id", message.act_id)
    each.one_of("use_case", message.use_case, schema.use_cases)
    each.enum("kind", message.kind, act_pb2.ActKind.Name)
    each.identifier("release", message.release, required=False)
    each.text("reason", message.reason, most=MAX_REASON)
    if each.count("numbers", message.numbers, most=MAX_NUMBERS):
        for index, number in enumerate(message.numbers):
            _check_number(number, each.within(f"numbers[{index}]"))
    time = each.time("act_time", message.act_time, given=message.HasField("act_time"))
    violations.raise_if_any()
    return Act(
        act_id=message.act_id,
        use_case=message.use_case,
        kind=ACT_KINDS[message.kind],
        automatic=message.automatic,
        release=message.release,
        reason=message.reason,
        numbers=tuple(read_act_number(number) for number in message.numbers),
        act_time=time or now,
    )


def _check_number(message: act_pb2.ActNumber, violations: Violations) -> None:
    violations.identifier("name", message.name)
    violations.number("value", message.value)
    if message.HasField("threshold"):
        violations.number("threshold", message.threshold)


def acts_page(
    request: calls.ListActsRequest, schema: Schema, now: datetime
) -> tuple[tuple[ActKind, ...], tuple[datetime, str] | None, int]:
    """Check and convert a listing: the kinds, the act it starts below, and the page size."""
    if request.use_case:
        schema.use_case(request.use_case, now)
    violations = Violations(now=now)
    if violations.count("kinds", request.kinds, most=MAX_KINDS):
        for index, kind in enumerate(request.kinds):
            violations.enum(f"kinds[{index}]", kind, act_pb2.ActKind.Name)
    limit = violations.page_size(request.page_size, default=50, most=500)
    position = violations.page_token(request, request.page_token, parts=2)
    violations.raise_if_any()
    kinds = tuple(ACT_KINDS[kind] for kind in request.kinds)
    return kinds, (datetime.fromisoformat(position[0]), position[1]) if position else None, limit


def acts_page_reply(
    request: calls.ListActsRequest, found: Sequence[Act], limit: int
) -> calls.ListActsResponse:
    """Convert a page of which one more row was asked than it holds."""
    page = fitting(act_to_proto(act) for act in found[:limit])
    token = ""
    if len(found) > len(page):
        last = found[len(page) - 1]
        token = write_page_token(request, last.act_time.isoformat(), last.act_id)
    return calls.ListActsResponse(acts=page, next_page_token=token)


def experiment_to_start(request: calls.StartExperimentRequest, schema: Schema, now: datetime) -> Experiment:
    """Check and convert an experiment.

    Raises
    ------
    InvalidInput
        With every violation.
    """
    message = request.experiment
    violations = Violations(now=now)
    each = violations.within("experiment")
    if not 0.0 < message.challenger_share < 1.0:
        each.add("challenger_share", f"is {message.challenger_share:g}, not over 0 and under 1")
    time = each.time("start_time", message.start_time, given=message.HasField("start_time"))
    experiment = Experiment(
        experiment_id=each.identifier("experiment_id", message.experiment_id),
        use_case=each.one_of("use_case", message.use_case, schema.use_cases),
        challenger_share=message.challenger_share,
        champion_release=each.identifier("champion_release", message.champion_release),
        challenger_release=each.identifier("challenger_release", message.challenger_release),
        start_time=time or now,
    )
    violations.raise_if_any()
    return experiment


def experiment_to_stop(request: calls.StopExperimentRequest, now: datetime) -> tuple[str, str]:
    """Check which experiment is stopped, and why."""
    violations = Violations(now=now)
    experiment_id = violations.identifier("experiment_id", request.experiment_id)
    reason = violations.text("reason", request.reason, most=MAX_REASON, required=True)
    violations.raise_if_any()
    return experiment_id, reason


def experiments_page(
    request: calls.ListExperimentsRequest, schema: Schema, now: datetime
) -> tuple[ExperimentPosition | None, int]:
    """Check and convert a listing: the position it starts below, and the page size."""
    if request.use_case:
        schema.use_case(request.use_case, now)
    violations = Violations(now=now)
    limit = violations.page_size(request.page_size, default=50, most=500)
    position = violations.page_token(request, request.page_token, parts=3)
    violations.raise_if_any()
    if position is None:
        return None, limit
    runs, start_time, experiment_id = position
    return ExperimentPosition(runs == "runs", datetime.fromisoformat(start_time), experiment_id), limit


def experiments_page_reply(
    request: calls.ListExperimentsRequest, found: Sequence[Experiment], limit: int
) -> calls.ListExperimentsResponse:
    """Convert a page of which one more row was asked than it holds."""
    page = fitting(experiment_to_proto(experiment) for experiment in found[:limit])
    token = ""
    if len(found) > len(page):
        last = position_of(found[len(page) - 1])
        runs = "runs" if last.runs else ""
        token = write_page_token(request, runs, last.start_time.isoformat(), last.experiment_id)
    return calls.ListExperimentsResponse(experiments=page, next_page_token=token)


def reactions_asked(
    request: calls.GetReactionsRequest, schema: Schema, now: datetime
) -> tuple[ServedLists, ReactionKinds]:
    """Check and convert of which lists the reactions are asked, and what counts as what.

    Raises
    ------
    InvalidInput
        With every violation.
    NotFound
        When the use case is not loaded (USE_CASE_NOT_FOUND).
    """
    use_case = schema.use_case(request.use_case, now)
    violations = Violations(now=now)
    from_time = violations.required_time("from_time", request.from_time, given=request.HasField("from_time"))
    to_time = violations.time("to_time", request.to_time, given=request.HasField("to_time"))
    if to_time is not None and to_time < from_time:
        violations.add("to_time", "lies before from_time")
    release = violations.identifier("release", request.release, required=False)
    if request.grouping:
        violations.enum("grouping", request.grouping, reactions_pb2.ReactionGrouping.Name)
    violations.raise_if_any()
    grouping = GROUPINGS[request.grouping]
    return ServedLists(use_case.id, from_time, to_time, release, grouping), ReactionKinds.of(use_case)
