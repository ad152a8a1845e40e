"""Watches what serves: asks the guards, stops an experiment or takes a champion back, and says why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from matchloop.acts import ActKind
from matchloop.experiments.arms import CHALLENGER_ARM, CHAMPION_ARM
from matchloop.experiments.results import pooled
from matchloop.observe.logs import get_logger
from matchloop.release import CHAMPION
from training_jobs.experiments import stop_experiment
from training_jobs.exposition import NO_REQUESTS, Key, Requests
from training_jobs.guards import Guard, Side, ask_guards, guard_numbers, lost
from training_jobs.promotion import champion_before, roll_back

if TYPE_CHECKING:
    from matchloop.experiments.experiment import Experiment
    from matchloop.release import RegisteredRelease, Registry
    from training_jobs.config import GuardConfig
    from training_jobs.experiments import ExperimentRecord

Clock = Callable[[], datetime]

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at one comparison came to.

    Parameters
    ----------
    release, other
        The one that is guarded, and the one it is compared with; `other` empty: there is none.
    done
        What was done about it; None: nothing had to be.
    """

    release: str
    other: str
    guards: tuple[Guard, ...] = ()
    done: ActKind | None = None
    reason: str = ""


class Monitor:
    """Guards one use case.

    In an experiment the challenger's arm is compared with the champion's. After a promotion the champion's
    lists since are compared with those of the release before it, up to the promotion.

    Parameters
    ----------
    requests
        What ranking_svc says now of the lists it made, by arm and release; {} where nobody tells.
    """

    def __init__(
        self,
        use_case: str,
        registry: Registry,
        record: ExperimentRecord,
        config: GuardConfig,
        *,
        clock: Clock,
        requests: Callable[[], Mapping[Key, Requests]] = dict,
    ) -> None:
        self._use_case = use_case
        self._registry = registry
        self._record = record
        self._config = config
        self._clock = clock
        self._requests = requests

    def look(self) -> list[Look]:
        """Ask the guards once and act on what they say.

        To be called by one process at a time (a lease): two would take back two releases.

        Raises
        ------
        MatchloopError
            If the store or the registry can't be asked; looking again later is safe.
        """
        requests = self._requests()
        found = []
        experiment = self._record.running_experiment(self._use_case)
        if experiment is not None:
            found.append(self._guard_experiment(experiment, requests))
        champion = self._registry.resolve(self._use_case, CHAMPION)
        if champion is not None:
            found.append(self._guard_champion(champion, requests))
        for look in found:
            self._tell(look)
        return found

    def _guard_experiment(self, experiment: Experiment, requests: Mapping[Key, Requests]) -> Look:
        rows = self._record.reactions(self._use_case, experiment.start_time, self._settled())

        def side(arm: str, release: str) -> Side:
            return Side(
                pooled([row for row in rows if row.arm == arm], arm, release),
                requests.get((arm, release), NO_REQUESTS),
            )

        guards = ask_guards(
            side(CHALLENGER_ARM, experiment.challenger_release),
            side(CHAMPION_ARM, experiment.champion_release),
            self._config,
        )
        releases = experiment.challenger_release, experiment.champion_release
        failed = lost(guards)
        if not failed:
            return Look(*releases, tuple(guards))
        reason = self._reason(*releases, failed)
        stop_experiment(
            self._registry,
            self._record,
            experiment,
            reason=reason,
            automatic=True,
            numbers=guard_numbers(guards),
        )
        return Look(*releases, tuple(guards), ActKind.EXPERIMENT_STOPPED, reason)

    def _guard_champion(self, champion: RegisteredRelease, requests: Mapping[Key, Requests]) -> Look:
        before = champion_before(self._registry, champion)
        since = champion.promoted
        if before is None or since is None:
            return Look(champion.release, "", reason="there is no release before it to compare with")
        if self._clock() - since > timedelta(days=self._config.watch_days):
            return Look(champion.release, before.release, reason="it is not watched any more")
        guards = ask_guards(
            self._side(champion.release, since, self._settled(), requests),
            self._side(before.release, since - timedelta(days=self._config.baseline_days), since, requests),
            self._config,
        )
        releases = champion.release, before.release
        failed = lost(guards)
        if not failed:
            return Look(*releases, tuple(guards))
        reason = self._reason(*releases, failed)
        self._roll_back(champion, reason, guards)
        return Look(*releases, tuple(guards), ActKind.ROLLED_BACK, reason)

    def _roll_back(self, champion: RegisteredRelease, reason: str, guards: list[Guard]) -> None:
        """Roll back and record it; the release goes first, for a record can wait and people can't."""
        roll_back(self._registry, self._use_case, reason=reason, clock=self._clock, automatic=True)
        assert champion.promoted is not None
        self._record.record_act(
            self._use_case,
            ActKind.ROLLED_BACK,
            automatic=True,
            release=champion.release,
            reason=reason,
            numbers=guard_numbers(guards),
            act_id=f"{self._use_case}/v{champion.version}/{champion.promoted:%Y%m%dT%H%M%S.%f}/rolled-back",
        )

    def _side(self, release: str, since: datetime, until: datetime, requests: Mapping[Key, Requests]) -> Side:
        rows = self._record.reactions(self._use_case, since, until, release) if until > since else ()
        made = NO_REQUESTS
        for (_, served), each in requests.items():
            made = made.plus(each) if served == release else made
        return Side(pooled(rows, release=release), made)

    def _settled(self) -> datetime:
        return self._clock() - timedelta(minutes=self._config.settle_minutes)

    def _reason(self, release: str, other: str, failed: list[Guard]) -> str:
        said = "; ".join(
            f"{guard.name} {guard.value:.4f} of {guard.counted}, limit {guard.limit:.4f} "
            f"({guard.other:.4f} with {other})"
            for guard in failed
        )
        return f"{release} lost its guard, sure at {self._config.confidence:.0%}: {said}"[:2000]

    def _tell(self, look: Look) -> None:
        if look.done is None:
            _log.info(
                "guards_held" if look.guards else "nothing_to_guard",
                use_case=self._use_case,
                release=look.release,
                before=look.other,
                guards=[str(guard) for guard in look.guards],
                reason=look.reason,
            )
        else:
            _log.error(
                look.done.value,
                use_case=self._use_case,
                release=look.release,
                before=look.other,
                reason=look.reason,
                guards=[str(guard) for guard in look.guards],
            )
