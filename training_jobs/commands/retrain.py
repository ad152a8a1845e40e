"""``retrain``: all steps at once, never two runs at a time; with ``--if-due`` only for a reason."""

from __future__ import annotations

import math
import uuid
from typing import TYPE_CHECKING, Annotated

import typer

from matchloop.acts import ActKind, ActNumber
from matchloop.errors import InvalidInput, MatchloopError
from matchloop.observe.job_metrics import told_job
from training_jobs.asking import decision_of
from training_jobs.commands.console import console
from training_jobs.commands.steps import NOT_PROMOTED, Asked, end
from training_jobs.gates import Verdict, gate_table
from training_jobs.leases import LeaseLost, LeaseTaken
from training_jobs.negatives import mark_negatives_used, retraining_status
from training_jobs.operations import Operations
from training_jobs.retrain import utc_now
from training_jobs.triggers import trigger_table

if TYPE_CHECKING:
    from matchloop.observe.job_metrics import JobMetrics
    from training_jobs.leases import HeldLease
    from training_jobs.retrain import Retrained
    from training_jobs.triggers import Decision

OVERLAPS = 5
UNASKED = 6
REASON = 2000
"""Characters of an act's reason."""

FeedbackAddress = Annotated[
    str | None,
    typer.Option(
        "--feedback",
        envvar="MATCHLOOP_FEEDBACK_ADDRESS",
        help="host:port of feedback_svc: holds the lease and the acts, is told which negatives were used.",
    ),
]
IfDue = Annotated[
    bool,
    typer.Option("--if-due", help="Only if dislikes, the champion's age or drift ask for it; says why."),
]


def retrain(asked: Asked, feedback: FeedbackAddress = None, if_due: IfDue = False) -> None:
    """Do all of it: data sets, training, evaluation, registration, gates, promotion.

    Exit code 0: promoted, or nothing was due. 3: refused by a gate. 5: another run is at it, or this one
    lost its lease; nothing was promoted. 6: nothing was due, but a trigger could not be asked.
    """
    with told_job("retrain", asked.use_case.id, fine=(0, NOT_PROMOTED)) as metrics:
        _retrain(asked, feedback, metrics, if_due=if_due)


def _retrain(asked: Asked, feedback: str | None, metrics: JobMetrics, *, if_due: bool) -> None:
    if not feedback:
        if if_due:
            raise InvalidInput("--if-due asks feedback_svc: give its address with --feedback HOST:PORT")
        done = asked.retraining().run()
        _show(done)
        tell_retrained(metrics, done)
        end(done.release, promoted=done.promoted)
        return
    name, seconds = f"retrain/{asked.use_case.id}", asked.config.triggers.lease_seconds
    with Operations(feedback) as operations:
        try:
            with operations.lease(name, seconds=seconds) as lease:
                _alone(asked, _Run(asked, feedback, operations, lease), metrics, if_due=if_due)
        except (LeaseTaken, LeaseLost) as error:
            said = "another run is at it" if isinstance(error, LeaseTaken) else "stopped before promotion"
            console.print(f"[red]{said}: {error.message}[/]", highlight=False, soft_wrap=True)
            raise typer.Exit(OVERLAPS) from error


def _alone(asked: Asked, run: _Run, metrics: JobMetrics, *, if_due: bool) -> None:
    """Do it, holding the lease."""
    decision = run.decision() if if_due else None
    if decision is not None:
        console.print(trigger_table(decision, asked.use_case.id))
        if not decision.runs:
            run.record(ActKind.NOT_DUE, reason=decision.why, numbers=decision.numbers, automatic=True)
            console.print(f"not retrained: {decision.why}", highlight=False, soft_wrap=True)
            if decision.unknown:
                raise typer.Exit(UNASKED)
            return
        console.print(f"retraining: {decision.why}", highlight=False, soft_wrap=True)
    done = run.train(decision)
    tell_retrained(metrics, done)
    run.say_due("now")
    end(done.release, promoted=done.promoted)


class _Run:
    """A run that holds the lease.

    Parameters
    ----------
    feedback
        Address of feedback_svc.
    """

    def __init__(self, asked: Asked, feedback: str, operations: Operations, lease: HeldLease) -> None:
        self._asked, self._feedback = asked, feedback
        self._operations, self._lease = operations, lease
        self._use_case = asked.use_case.id

    def decision(self) -> Decision:
        """Ask every trigger."""
        asked = self._asked
        return decision_of(
            asked.use_case,
            self._feedback,
            self._operations,
            asked.registry,
            asked.config.triggers,
            work=asked.work,
            now=utc_now(),
        )

    def train(self, decision: Decision | None) -> Retrained:
        """Do every step; what began and what came of it are recorded. A lost lease promotes nothing."""
        self.say_due("before")
        steps = self._asked.retraining(self._lease.raise_if_lost)
        reason, numbers = (decision.why, decision.numbers) if decision else ("asked for", ())
        automatic = decision is not None
        self.record(
            ActKind.RETRAINED, release=steps.release, reason=reason, numbers=numbers, automatic=automatic
        )
        done = steps.run(self._mark_used)
        _show(done)
        self._record_verdict(done, automatic=automatic)
        return done

    def record(
        self,
        kind: ActKind,
        *,
        reason: str,
        automatic: bool,
        release: str = "",
        numbers: tuple[ActNumber, ...] = (),
        act_id: str | None = None,
    ) -> None:
        """Record an act."""
        self._operations.record_act(
            self._use_case,
            kind,
            automatic=automatic,
            release=release,
            reason=reason[:REASON],
            numbers=numbers,
            act_id=act_id,
        )

    def say_due(self, when: str) -> None:
        """Print whether feedback_svc holds a retraining for due."""
        try:
            told = str(retraining_status(self._feedback, self._use_case))
        except MatchloopError as error:  # the training itself does not need it
            told = f"unknown, {error.message}"
        console.print(f"due {when}: {told}", highlight=False)

    def _mark_used(self, release: str, watermark: int) -> int:
        return mark_negatives_used(self._feedback, self._use_case, release, watermark)

    def _record_verdict(self, done: Retrained, *, automatic: bool) -> None:
        """Record once what the gates said of a release."""
        refusing = [gate.name for gate in done.gates if gate.verdict is Verdict.REFUSED]
        kind = ActKind.PROMOTED if done.promoted else ActKind.REFUSED
        numbers = [
            ActNumber(gate.name, gate.value, gate.threshold)
            for gate in done.gates
            if math.isfinite(gate.value)
        ]
        self.record(
            kind,
            release=done.release,
            reason=f"refused by {', '.join(refusing)}" if refusing else "passed every gate",
            numbers=tuple(numbers[:64]),
            automatic=automatic,
            act_id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"matchloop:{kind}:{done.release}")),
        )


def tell_retrained(metrics: JobMetrics, done: Retrained) -> None:
    """Set what Prometheus is told of a run: the verdict, every gate, how long the steps took."""
    metrics.promoted.labels(done.release).set(done.promoted)
    for gate in done.gates:
        metrics.gate_value.labels(gate.name).set(gate.value)
        metrics.gate_threshold.labels(gate.name).set(gate.threshold)
        metrics.gate_verdict.labels(gate.name, gate.verdict.value).set(1)
    for step, taken in done.seconds.items():
        metrics.step_seconds.labels(step).set(taken)


def _show(done: Retrained) -> None:
    console.print(gate_table(done.gates, done.release))
    for part, why in done.skipped.items():
        console.print(f"released without {part}: {why}")
    if done.seconds:
        console.print("seconds: " + ", ".join(f"{step} {taken:.1f}" for step, taken in done.seconds.items()))
    if done.marked is not None:
        console.print(f"{done.marked} negatives are marked as used by this release")
