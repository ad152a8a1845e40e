"""Ask everything that may make a retraining due: feedback_svc, the registry, and what the champion served."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matchloop.acts import ActKind
from matchloop.errors import MatchloopError
from matchloop.release import CHAMPION, Manifest
from training_jobs.champion_folder import champion_folder
from training_jobs.drift import Baseline, Drift, drift_of
from training_jobs.negatives import retraining_status
from training_jobs.served import served_lists
from training_jobs.triggers import (
    DRIFT,
    Decision,
    age_trigger,
    decide,
    dislike_triggers,
    drift_trigger,
    history_of,
    unknown,
)

if TYPE_CHECKING:
    from datetime import datetime

    from matchloop.release import RegisteredRelease, Registry
    from matchloop.usecase import UseCase
    from training_jobs.config import TriggerConfig
    from training_jobs.operations import Operations
    from training_jobs.triggers import Trigger

ACTS = 100
"""Runs looked back on: more than a pause can grow with."""


def decision_of(
    use_case: UseCase,
    address: str,
    operations: Operations,
    registry: Registry,
    config: TriggerConfig,
    *,
    work: Path,
    now: datetime,
) -> Decision:
    """Ask every trigger and decide; one that can't be asked is said and does not count as due.

    Parameters
    ----------
    address
        Of feedback_svc.
    work
        Folder that the champion is fetched to, unless it was built there.

    Raises
    ------
    MatchloopError
        When neither acts nor releases can be listed: without knowing earlier runs nothing is decided.
    """
    triggers = [*_dislikes(address, use_case.id), *_champion(use_case, address, registry, config, work, now)]
    if not any(trigger.due for trigger in triggers):
        return decide(triggers, history_of((), ()), now, config)
    acts = operations.acts(use_case.id, kinds=[ActKind.RETRAINED], limit=ACTS)
    return decide(triggers, history_of(acts, registry.list(use_case.id)), now, config)


def drift_since(
    use_case: UseCase,
    address: str,
    champion: RegisteredRelease,
    folder: Path,
    config: TriggerConfig,
    *,
    now: datetime,
) -> Drift:
    """Hold what the champion served since against the baseline in its folder.

    Raises
    ------
    MatchloopError
        When feedback_svc can't be asked, or the folder is not what it should be.
    """
    baseline, ranked = Baseline.read(folder), "ranker" in Manifest.read(folder).parts
    if baseline is None:
        untold = f"no baseline: {champion.release} was trained before there were lists"
        return Drift(champion.release, untold=untold)
    served = served_lists(address, use_case, champion.release, config, now=now, reranked=ranked)
    return drift_of(champion.release, baseline, served, config)


def _dislikes(address: str, use_case: str) -> tuple[Trigger, ...]:
    try:
        return dislike_triggers(retraining_status(address, use_case))
    except MatchloopError as error:
        return (unknown("dislikes", error.message),)


def _champion(
    use_case: UseCase, address: str, registry: Registry, config: TriggerConfig, work: Path, now: datetime
) -> tuple[Trigger, ...]:
    try:
        champion = registry.resolve(use_case.id, CHAMPION)
        if champion is None:
            return age_trigger(None, now, config), drift_trigger(Drift("", untold="no champion"))
        folder = champion_folder(registry, champion, work)
        age = age_trigger(Manifest.read(folder).created, now, config)
    except MatchloopError as error:
        return unknown("age", error.message), unknown(DRIFT, error.message)
    try:
        return age, drift_trigger(drift_since(use_case, address, champion, folder, config, now=now))
    except MatchloopError as error:
        return age, unknown(DRIFT, error.message)
