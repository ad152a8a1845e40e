"""Which release is champion: promotion, and the way back to the one before."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from matchloop.errors import Conflict, NotFound, Reason
from matchloop.release.registry import CHAMPION, FORCED, PROMOTED, ROLLBACK_REASON, ROLLED_BACK
from training_jobs.gates import Gate, Verdict

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from matchloop.release import RegisteredRelease, Registry

Clock = Callable[[], datetime]

GATES = "gates"
"""Tag: what the gates said last, as JSON."""
CHAMPION_THEN = "gates_champion"
"""Tag: the release that was champion when the gates were asked; empty: none."""
AUTOMATIC = "rollback_automatic"
"""Tag: whether nobody asked for the rollback."""

_log: FilteringBoundLogger = structlog.get_logger("training_jobs.promotion")


def find_release(registry: Registry, use_case: str, name: str) -> RegisteredRelease:
    """Return a release by alias, version or id.

    Raises
    ------
    NotFound
        If there is none (reason RELEASE_NOT_FOUND).
    """
    for known in registry.list(use_case):
        if name in (known.release, known.version, *known.aliases):
            return known
    raise NotFound(f"{use_case}: no alias, version or release {name}", reason=Reason.RELEASE_NOT_FOUND)


def note_gates(
    registry: Registry, registered: RegisteredRelease, gates: Sequence[Gate], champion: str
) -> None:
    """Keep what the gates said with the version, promoted or refused."""
    told = json.dumps([gate.to_json() for gate in gates])
    if registered.tags.get(GATES) != told:
        registry.tag(registered.use_case, registered.version, {GATES: told, CHAMPION_THEN: champion})


def gates_of(registered: RegisteredRelease) -> list[Gate]:
    """Return what `note_gates` kept; [] where nothing was."""
    told = json.loads(registered.tags.get(GATES, "[]"))
    return [Gate.from_json(gate) for gate in told]


def objections(registered: RegisteredRelease, gates: Sequence[Gate]) -> list[str]:
    """Return what speaks against a promotion, by name: gates that refuse it, and ``rolled_back``."""
    found = [gate.name for gate in gates if gate.verdict is Verdict.REFUSED]
    if registered.rolled_back is not None and "rolled_back" not in found:
        found.append("rolled_back")
    return found


def promote_version(
    registry: Registry,
    registered: RegisteredRelease,
    *,
    clock: Clock,
    gates: Sequence[Gate] = (),
    force: bool = False,
) -> RegisteredRelease:
    """Make a version champion and note when; one that is champion stays it, with its time.

    Parameters
    ----------
    registered
        As read from the registry just now.
    gates
        What it was asked.
    force
        Whether it is promoted in spite of what speaks against it, which is noted then.

    Returns
    -------
    RegisteredRelease
        As the registry has it afterwards.

    Raises
    ------
    Conflict
        If a gate refuses it, or it was rolled back, and nobody forced it. Nothing is changed.
    """
    against = objections(registered, gates)
    if against and not force:
        raise Conflict(f"release {registered.release} may not be promoted: {', '.join(against)}")
    if CHAMPION in registered.aliases and registered.rolled_back is None:
        return registered
    forced = ", ".join(against)
    registry.tag(registered.use_case, registered.version, {PROMOTED: clock().isoformat(), FORCED: forced})
    registry.set_alias(registered.use_case, CHAMPION, registered.version)
    if forced:
        _log.warning("promotion forced", release=registered.release, against=forced)
    return _reread(registry, registered)


def roll_back(
    registry: Registry, use_case: str, *, reason: str, clock: Clock, automatic: bool = False
) -> RegisteredRelease:
    """Make the release champion again that was promoted last before the champion.

    Releases that were rolled back themselves are passed over. The champion is marked as rolled back first,
    so that a call that was cut short can be made again.

    Parameters
    ----------
    reason
        Kept with the release that is taken back.
    automatic
        Whether a guard asked, not a person.

    Returns
    -------
    RegisteredRelease
        The champion from now on; the time of its promotion is now.

    Raises
    ------
    NotFound
        If there is no champion, or none before it (reason RELEASE_NOT_FOUND); nothing is changed.
    """
    champion = registry.resolve(use_case, CHAMPION)
    if champion is None:
        raise NotFound(f"{use_case} has no champion", reason=Reason.RELEASE_NOT_FOUND)
    before = champion_before(registry, champion)
    if before is None:
        raise NotFound(
            f"no release of {use_case} was champion before {champion.release}",
            reason=Reason.RELEASE_NOT_FOUND,
        )
    now = clock().isoformat()
    registry.tag(
        use_case,
        champion.version,
        {ROLLED_BACK: now, ROLLBACK_REASON: reason, AUTOMATIC: str(automatic).lower()},
    )
    registry.set_alias(use_case, CHAMPION, before.version)
    registry.tag(use_case, before.version, {PROMOTED: now})
    _log.warning(
        "champion rolled back",
        use_case=use_case,
        release=champion.release,
        to=before.release,
        reason=reason,
        automatic=automatic,
    )
    return _reread(registry, before)


def champion_before(registry: Registry, champion: RegisteredRelease) -> RegisteredRelease | None:
    """Return the release promoted last before a champion and not rolled back; None if there is none."""
    earlier = [
        known
        for known in registry.list(champion.use_case)
        if known.version != champion.version
        and known.promoted is not None
        and known.rolled_back is None
        and (champion.promoted is None or known.promoted <= champion.promoted)
    ]
    return max(earlier, key=lambda known: (known.promoted, int(known.version)), default=None)


def _reread(registry: Registry, registered: RegisteredRelease) -> RegisteredRelease:
    return next(known for known in registry.list(registered.use_case) if known.version == registered.version)
