"""Starting and stopping an experiment: the alias in the registry and the record in the store, together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from matchloop.acts import ActKind, ActNumber
from matchloop.errors import Conflict, InvalidInput, MatchloopError, NotFound, Reason, Violation
from matchloop.release import CHALLENGER, CHAMPION
from training_jobs.promotion import gates_of, objections

if TYPE_CHECKING:
    from matchloop.experiments.experiment import Experiment
    from matchloop.experiments.reactions import Reactions
    from matchloop.release import RegisteredRelease, Registry

Clock = Callable[[], datetime]


class ExperimentRecord(Protocol):
    """What is used of `training_jobs.operations.Operations`."""

    def start_experiment(
        self,
        use_case: str,
        *,
        experiment_id: str,
        challenger_share: float,
        champion_release: str,
        challenger_release: str,
    ) -> Experiment:
        """Start an experiment; raises Conflict while another one runs."""

    def stop_experiment(self, experiment_id: str, *, reason: str) -> Experiment:
        """Stop an experiment."""

    def running_experiment(self, use_case: str) -> Experiment | None:
        """Return the experiment that runs."""

    def reactions(
        self,
        use_case: str,
        from_time: datetime,
        to_time: datetime | None = None,
        release: str = "",
        *,
        by_arm: bool = True,
        by_release: bool = True,
    ) -> tuple[Reactions, ...]:
        """Return what came of lists, by arm, then release, or by one of them alone."""

    def record_act(
        self,
        use_case: str,
        kind: ActKind,
        *,
        automatic: bool,
        release: str = "",
        reason: str = "",
        numbers: Iterable[ActNumber] = (),
        act_id: str | None = None,
    ) -> bool:
        """Record an act, once for an id."""


def start_experiment(
    registry: Registry,
    record: ExperimentRecord,
    use_case: str,
    *,
    share: float,
    challenger: str | None,
    clock: Clock,
) -> Experiment:
    """Give a share of the subjects another release than the champion, from now on.

    The alias is set before the experiment begins, so that services may load the release; it is taken back if
    the experiment can't be started.

    Parameters
    ----------
    share
        Of subjects, over 0 and under 1.
    challenger
        A registered release's id or version, whatever its gates said; None: the newest since the champion
        that no gate refused and that was not rolled back.

    Raises
    ------
    InvalidInput
        If the share is out of range.
    NotFound
        If there is no champion, or no such release (reason RELEASE_NOT_FOUND).
    Conflict
        While an experiment runs in the use case, or the challenger is the champion.
    """
    if not 0.0 < share < 1.0:
        raise InvalidInput.of([Violation("share", f"{share:g} is not between 0 and 1")])
    champion = registry.resolve(use_case, CHAMPION)
    if champion is None:
        raise NotFound(f"{use_case} has no champion", reason=Reason.RELEASE_NOT_FOUND)
    running = record.running_experiment(use_case)
    if running is not None:
        raise Conflict(f"{use_case}: experiment {running.experiment_id} runs already")
    chosen = _challenger(registry, champion, challenger)
    registry.set_alias(use_case, CHALLENGER, chosen.version)
    experiment_id = f"{use_case}-{clock():%Y%m%dT%H%M%S}-v{chosen.version}"
    try:
        started = record.start_experiment(
            use_case,
            experiment_id=experiment_id,
            challenger_share=share,
            champion_release=champion.release,
            challenger_release=chosen.release,
        )
    except MatchloopError:
        registry.drop_alias(use_case, CHALLENGER)
        raise
    record.record_act(
        use_case,
        ActKind.EXPERIMENT_STARTED,
        automatic=False,
        release=chosen.release,
        reason=f"{share:.0%} of subjects get {chosen.release} in place of {champion.release}",
        numbers=[ActNumber("challenger_share", share)],
        act_id=f"{experiment_id}/started",
    )
    return started


def stop_experiment(
    registry: Registry,
    record: ExperimentRecord,
    experiment: Experiment,
    *,
    reason: str,
    automatic: bool = False,
    numbers: Iterable[ActNumber] = (),
) -> Experiment:
    """Give every subject the champion again; a stop that was cut short can be made again."""
    stopped = record.stop_experiment(experiment.experiment_id, reason=reason)
    registry.drop_alias(experiment.use_case, CHALLENGER)
    record.record_act(
        experiment.use_case,
        ActKind.EXPERIMENT_STOPPED,
        automatic=automatic,
        release=experiment.challenger_release,
        reason=reason,
        numbers=numbers,
        act_id=f"{experiment.experiment_id}/stopped",
    )
    return stopped


def _challenger(registry: Registry, champion: RegisteredRelease, name: str | None) -> RegisteredRelease:
    known = registry.list(champion.use_case)
    if name is None:
        newer = [each for each in known if int(each.version) > int(champion.version)]
        fit = [each for each in newer if not objections(each, gates_of(each))]
        wanted = "newer than the champion, passed by its gates and not rolled back,"
    else:
        fit, wanted = [each for each in known if name in (each.release, each.version)], f"called {name}"
    if not fit:
        raise NotFound(
            f"{champion.use_case}: no release {wanted} is registered", reason=Reason.RELEASE_NOT_FOUND
        )
    if fit[0].version == champion.version:
        raise Conflict(f"{fit[0].release} is the champion: it can't challenge itself")
    return fit[0]
