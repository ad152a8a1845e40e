"""Leases, acts, experiments and reactions between proto and values: for feedback_svc and its clients alike.

The ``read_*`` functions take messages of our own services, checked when they were written.
"""

from __future__ import annotations

from collections.abc import Mapping

from matchloop.acts import Act, ActKind, ActNumber
from matchloop.experiments.experiment import Experiment
from matchloop.experiments.reactions import Moments, Reactions
from matchloop.leases import Lease
from matchloop.operations.v1 import act_pb2, experiment_pb2, lease_pb2, reactions_pb2
from matchloop.rpc.convert import read_time, timestamp

ACT_KINDS: Mapping[act_pb2.ActKind.ValueType, ActKind] = {
    act_pb2.ActKind.Value(f"ACT_KIND_{kind.name}"): kind for kind in ActKind
}
ACT_KIND_NUMBERS = {kind: number for number, kind in ACT_KINDS.items()}


def lease_to_proto(lease: Lease) -> lease_pb2.Lease:
    """Convert a lease."""
    return lease_pb2.Lease(
        name=lease.name,
        holder=lease.holder,
        acquire_time=timestamp(lease.acquire_time),
        expire_time=timestamp(lease.expire_time),
    )


def read_lease(message: lease_pb2.Lease) -> Lease:
    """Read a lease."""
    return Lease(
        message.name, message.holder, read_time(message.acquire_time), read_time(message.expire_time)
    )


def act_to_proto(act: Act) -> act_pb2.Act:
    """Convert an act."""
    return act_pb2.Act(
        act_id=act.act_id,
        use_case=act.use_case,
        kind=ACT_KIND_NUMBERS[act.kind],
        automatic=act.automatic,
        release=act.release,
        reason=act.reason,
        numbers=[
            act_pb2.ActNumber(name=number.name, value=number.value, threshold=number.threshold)
            for number in act.numbers
        ],
        act_time=timestamp(act.act_time),
    )


def read_act_number(message: act_pb2.ActNumber) -> ActNumber:
    """Read a number of an act."""
    threshold = message.threshold if message.HasField("threshold") else None
    return ActNumber(message.name, message.value, threshold)


def read_act(message: act_pb2.Act) -> Act:
    """Read an act."""
    return Act(
        act_id=message.act_id,
        use_case=message.use_case,
        kind=ACT_KINDS[message.kind],
        automatic=message.automatic,
        release=message.release,
        reason=message.reason,
        numbers=tuple(read_act_number(number) for number in message.numbers),
        act_time=read_time(message.act_time),
    )


def experiment_to_proto(experiment: Experiment) -> experiment_pb2.Experiment:
    """Convert an experiment."""
    return experiment_pb2.Experiment(
        experiment_id=experiment.experiment_id,
        use_case=experiment.use_case,
        challenger_share=experiment.challenger_share,
        champion_release=experiment.champion_release,
        challenger_release=experiment.challenger_release,
        start_time=timestamp(experiment.start_time),
        stop_time=timestamp(experiment.stop_time),
        stop_reason=experiment.stop_reason,
    )


def read_experiment(message: experiment_pb2.Experiment) -> Experiment:
    """Read an experiment."""
    return Experiment(
        experiment_id=message.experiment_id,
        use_case=message.use_case,
        challenger_share=message.challenger_share,
        champion_release=message.champion_release,
        challenger_release=message.challenger_release,
        start_time=read_time(message.start_time),
        stop_time=read_time(message.stop_time) if message.HasField("stop_time") else None,
        stop_reason=message.stop_reason,
    )


def reactions_to_proto(reactions: Reactions) -> reactions_pb2.Reactions:
    """Convert what came of the lists of an arm and release."""
    return reactions_pb2.Reactions(
        arm=reactions.arm,
        release=reactions.release,
        subjects=reactions.subjects,
        sessions=reactions.sessions,
        shown=reactions.shown,
        shown_squares=reactions.shown_squares,
        clicks=_moments_to_proto(reactions.clicks),
        strong_positives=_moments_to_proto(reactions.strong_positives),
        dislikes=_moments_to_proto(reactions.dislikes),
        reranked_sessions=reactions.reranked_sessions,
        mean_diversity=reactions.mean_diversity,
        mean_freshness=reactions.mean_freshness,
    )


def read_reactions(message: reactions_pb2.Reactions) -> Reactions:
    """Read what came of the lists of an arm and release."""
    return Reactions(
        arm=message.arm,
        release=message.release,
        subjects=message.subjects,
        sessions=message.sessions,
        shown=message.shown,
        shown_squares=message.shown_squares,
        clicks=_read_moments(message.clicks),
        strong_positives=_read_moments(message.strong_positives),
        dislikes=_read_moments(message.dislikes),
        reranked_sessions=message.reranked_sessions,
        mean_diversity=message.mean_diversity,
        mean_freshness=message.mean_freshness,
    )


def _moments_to_proto(moments: Moments) -> reactions_pb2.ReactionMoments:
    return reactions_pb2.ReactionMoments(
        total=moments.total, squares=moments.squares, products=moments.products
    )


def _read_moments(message: reactions_pb2.ReactionMoments) -> Moments:
    return Moments(message.total, message.squares, message.products)


def reaction_grouping(*, by_arm: bool, by_release: bool) -> reactions_pb2.ReactionGrouping.ValueType:
    """Return how to ask for reactions by arm, by release, or by both.

    Raises
    ------
    ValueError
        If they are asked for by neither.
    """
    if not by_arm and not by_release:
        raise ValueError("reactions are summed up by arm, by release, or by both")
    if by_arm and by_release:
        return reactions_pb2.REACTION_GROUPING_UNSPECIFIED
    return reactions_pb2.REACTION_GROUPING_ARM if by_arm else reactions_pb2.REACTION_GROUPING_RELEASE
