"""The catalogue mirror: items and their counts in memory, kept up to date by polling the store's lists."""

from __future__ import annotations

import threading
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

from candidate_svc.counts import ItemCounts, ItemStats
from candidate_svc.erasures import HeldIds
from candidate_svc.feed import Feed, ListReplaced, Page
from candidate_svc.rows import ItemRows
from matchloop.entities import Entity, EntityId, EntityKey, Kind, Tombstone
from matchloop.errors import MatchloopError, Unavailable
from matchloop.observe.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from matchloop.observe.metrics import Metrics
    from matchloop.usecase import UseCases

    Clock = Callable[[], datetime]

VERIFY_EVERY = 60
"""Passes between two checks that the store is the one that was followed; a failed pass is followed by one."""

_log = get_logger()


class CatalogueLists(Protocol):
    """The store's lists by change sequence. Both methods raise MatchloopError when it cannot be read."""

    def entities(self, kinds: Sequence[str], from_sequence: int, page_token: str) -> Page[Entity | Tombstone]:
        """List entities of these kinds, inactive and erased ones too."""

    def tombstones(self, kinds: Sequence[str], from_sequence: int, page_token: str) -> Page[Tombstone]:
        """List the erased entities of these kinds."""

    def item_stats(self, use_case: str, from_sequence: int, page_token: str) -> Page[ItemStats]:
        """List the counts of a use case."""


class ItemListener(Protocol):
    """Keeps something of its own in step with the mirror; called by the polling thread, in order."""

    def items_changed(self, kind: Kind, changed: Sequence[Entity]) -> None:
        """Take items as they are now, inactive ones too; `ItemRows` has them already. Must not raise."""


class ErasureListener(Protocol):
    """Holds something of subjects; called by the polling thread, in order."""

    def subjects_erased(self, tombstones: Sequence[Tombstone]) -> None:
        """Forget these. Must not raise."""


class Keeper(Protocol):
    """Keeps the mirror over restarts; called by the polling thread, or before it starts."""

    def keep(self, mirror: Mirror) -> bool:
        """Write what the mirror holds; tells whether that went well. Must not raise."""

    def forget(self) -> None:
        """Remove what was written. Must not raise."""

    def restore(self, mirror: Mirror) -> bool:
        """Fill a mirror that holds nothing; tells whether it did. Raises ValueError when that broke off."""


KEEP_SECONDS = 600.0
"""Changes wait this long to be kept; a restart reads again what was not."""


class Mirror:
    """All items of all use cases, and their counts; and which subjects were erased.

    Not ready before the first whole listing. From then on it serves what it has, whether the store answers
    or not; `staleness` says how old that is. When the store was replaced or restored, everything is listed
    again and what is gone is deactivated, all while serving.

    Parameters
    ----------
    lists
        The store.
    use_cases
        Whose item kinds are mirrored.
    clock
        Time in UTC.
    metrics
        Gets the number of active items by kind and the staleness.
    poll_seconds
        Pause between two passes.
    on_ready
        Called once, by the polling thread.
    keeper
        None: a start lists the whole catalogue.
    """

    def __init__(
        self,
        lists: CatalogueLists,
        use_cases: UseCases,
        *,
        clock: Clock,
        metrics: Metrics,
        poll_seconds: float = 1.0,
        verify_every: int = VERIFY_EVERY,
        on_ready: Callable[[], None] = lambda: None,
        keeper: Keeper | None = None,
    ) -> None:
        started = clock()
        self._clock = clock
        self._metrics = metrics
        self._poll_seconds = poll_seconds
        self._verify_every = verify_every
        self._on_ready = on_ready
        self.keeper = keeper
        self._kept: datetime | None = None
        self._changed_since_kept = True
        self._listeners: list[ItemListener] = []
        self.rows: Mapping[str, ItemRows] = {
            use_case.item: ItemRows(Kind(use_case.item), use_case.item_features)
            for use_case in use_cases.values()
        }
        self.counts: Mapping[str, ItemCounts] = {
            name: ItemCounts(
                self.rows[use_case.item],
                half_life_days=use_case.popularity.half_life_days,
                reference=started,
            )
            for name, use_case in use_cases.items()
        }
        kinds = sorted(self.rows)
        self._entities: Feed[Entity | Tombstone] = Feed(
            lambda start, token: lists.entities(kinds, start, token), name=_name
        )
        self._item_kinds = {use_case.id: use_case.item for use_case in use_cases.values()}
        self._held = {kind: HeldIds(rows) for kind, rows in self.rows.items()}
        subjects = sorted({use_case.subject for use_case in use_cases.values()})
        self._tombstones: Feed[Tombstone] = Feed(
            lambda start, token: lists.tombstones(subjects, start, token), name=_name
        )
        self._erasure_listeners: list[ErasureListener] = []
        self._stats: Mapping[str, Feed[ItemStats]] = {name: _stats_feed(lists, name) for name in self.counts}
        self._passes = 0
        self._verify_next = False
        self._sweep_entities = False
        self._sweep_stats: set[str] = set()
        self._caught_up: datetime | None = None
        self._started = started
        self._ready = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        metrics.mirror_lag.set_function(self.staleness)

    @property
    def ready(self) -> bool:
        """Whether the catalogue was listed as a whole at least once."""
        return self._ready.is_set()

    def wait_ready(self, timeout: float) -> bool:
        """Wait until ready, at most `timeout` seconds; tells whether it is."""
        return self._ready.wait(timeout)

    def staleness(self) -> float:
        """Return the seconds since the mirror last had everything (since it was made, before that)."""
        return max(0.0, (self._clock() - (self._caught_up or self._started)).total_seconds())

    def subscribe(self, listener: ItemListener) -> None:
        """Tell `listener` of every change from now on; before `start`."""
        self._listeners.append(listener)

    def subscribe_to_erasures(self, listener: ErasureListener) -> None:
        """Tell `listener` of every erased subject from now on; before `start`."""
        self._erasure_listeners.append(listener)

    def restore(self) -> bool:
        """Take what the keeper has; before `start`. Tells whether there was something.

        Raises
        ------
        ValueError
            If that broke off: this mirror must not be used.
        """
        if self.keeper is None or not self.keeper.restore(self):
            return False
        self._changed_since_kept, self._kept = False, self._clock()
        for kind, rows in self.rows.items():
            self._metrics.mirror_entities.labels(kind).set(int(rows.active(rows.count).sum()))
        _log.info("mirror restored", items=sum(rows.count for rows in self.rows.values()))
        return True

    def positions(self) -> dict[str, Any]:
        """Return where the lists were read up to, as JSON can hold it."""
        stats = {name: feed.position for name, feed in self._stats.items()}
        return {"entities": self._entities.position, "stats": stats}

    def resume(self, positions: Mapping[str, Any]) -> None:
        """Go on from `positions`; the next pass looks whether the store is the one that was read."""
        feeds: list[tuple[Feed[Any], Any]] = [(self._entities, positions["entities"])]
        feeds += [(feed, positions["stats"][name]) for name, feed in self._stats.items()]
        for feed, (following, latest) in feeds:
            feed.resume((int(following), None if latest is None else (int(latest[0]), str(latest[1]))))
        self._verify_next = True

    def _keep_when_due(self) -> None:
        if self.keeper is None or not self.ready or not self._changed_since_kept:
            return
        now = self._clock()
        if self._kept is None or (now - self._kept).total_seconds() >= KEEP_SECONDS:
            self._kept = now
            self._changed_since_kept = not self.keeper.keep(self)

    def start(self) -> None:
        """Poll in a thread, at once and then every `poll_seconds`."""
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)
        self._thread.start()

    def close(self, timeout: float = 5.0) -> None:
        """Stop polling; waits at most `timeout` seconds."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                if self.poll_once():
                    self._keep_when_due()
            except Exception:  # noqa: BLE001 - the thread must outlive a bug: an old catalogue beats none
                _log.exception("mirror pass failed")
                self._verify_next = True
            self._closed.wait(self._poll_seconds)

    def poll_once(self) -> bool:
        """Read everything that changed, now, in this thread; tells whether the store could be read."""
        self._passes += 1
        verify = self._verify_next or self._passes % self._verify_every == 0
        began = self._clock()
        try:
            self._pass_entities(verify=verify)
            self._pass_tombstones(verify=verify)
            for use_case in self._stats:
                self._pass_stats(use_case, verify=verify)
        except MatchloopError as error:
            self._verify_next = True
            self._metrics.upstream_failures.labels("feedback_svc", error.reason.value).inc()
            _log.warning("mirror cannot read the store", reason=error.reason.value, stale=self.staleness())
            return False
        self._verify_next = False
        self._caught_up = began
        if not self._ready.is_set():
            self._ready.set()
            _log.info("mirror ready", items=sum(rows.count for rows in self.rows.values()))
            self._on_ready()
        return True

    def _pass_entities(self, *, verify: bool) -> None:
        try:
            self._list_entities(verify=verify)
        except ListReplaced:
            _log.warning("the catalogue was replaced or restored: listing it again")
            self._entities.rewind()
            self._sweep_entities = True
            self._list_entities(verify=False)

    def _list_entities(self, *, verify: bool) -> None:
        listed: set[tuple[str, str]] = set()
        for entities in self._entities.changes(verify=verify):
            if self._closed.is_set():
                raise Unavailable("the mirror is closing")
            self._take_page(entities)
            if self._sweep_entities:
                listed.update((e.key.kind, e.key.id) for e in entities if isinstance(e, Entity))
        if self._sweep_entities:
            self._deactivate_others(listed)
            self._sweep_entities = False

    def _deactivate_others(self, listed: set[tuple[str, str]]) -> None:
        for kind, rows in self.rows.items():
            gone = [item_id for item_id in rows.active_ids() if (kind, item_id) not in listed]
            self._take([Entity(EntityKey(Kind(kind), item_id), active=False) for item_id in gone])

    def _take_page(self, changes: Sequence[Entity | Tombstone]) -> None:
        """Take entities and erasures in their order."""
        for erasing, group in groupby(changes, key=lambda each: isinstance(each, Tombstone)):
            if erasing:
                self._erase([each for each in group if isinstance(each, Tombstone)])
            else:
                self._take([each for each in group if isinstance(each, Entity)])

    def _erase(self, tombstones: Sequence[Tombstone]) -> None:
        for each in tombstones:
            item_id = self._held[each.kind].find(each.id_hash) if each.kind in self._held else None
            if item_id is not None and self.keeper is not None:
                self.keeper.forget()
                self._kept, self._changed_since_kept = None, True
            if item_id is None or not _erased_by(each, self.rows[each.kind].find(item_id)):
                continue
            self._take([Entity(EntityKey(each.kind, item_id), active=False)])
            row = self.rows[each.kind].forget(item_id)
            for use_case, counts in self.counts.items():
                if self._item_kinds[use_case] == each.kind and row is not None:
                    counts.clear(row)
                    self._stats[use_case].forget(item_id)
            self._held[each.kind].forget(each.id_hash)

    def _pass_tombstones(self, *, verify: bool) -> None:
        try:
            self._list_tombstones(verify=verify)
        except ListReplaced:
            self._tombstones.rewind()
            self._list_tombstones(verify=False)

    def _list_tombstones(self, *, verify: bool) -> None:
        for tombstones in self._tombstones.changes(verify=verify):
            for listener in self._erasure_listeners if tombstones else ():
                listener.subjects_erased(tombstones)

    def _take(self, entities: Sequence[Entity]) -> None:
        by_kind: dict[Kind, list[Entity]] = {}
        for entity in entities:
            if entity.key.kind in self.rows:
                by_kind.setdefault(entity.key.kind, []).append(entity)
        for kind, own in by_kind.items():
            rows = self.rows[kind]
            changed = rows.apply(own)
            self._changed_since_kept = True
            if changed:
                for listener in self._listeners:
                    listener.items_changed(kind, changed)
                self._metrics.mirror_entities.labels(kind).set(int(rows.active(rows.count).sum()))

    def _pass_stats(self, use_case: str, *, verify: bool) -> None:
        try:
            self._list_stats(use_case, verify=verify)
        except ListReplaced:
            _log.warning("the counts were replaced or restored: listing them again", use_case=use_case)
            self._stats[use_case].rewind()
            self._sweep_stats.add(use_case)
            self._list_stats(use_case, verify=False)

    def _list_stats(self, use_case: str, *, verify: bool) -> None:
        sweep, counts = use_case in self._sweep_stats, self.counts[use_case]
        listed: set[EntityId] = set()
        for stats in self._stats[use_case].changes(verify=verify):
            counts.apply(stats)
            self._changed_since_kept |= bool(stats)
            if sweep:
                listed.update(each.item_id for each in stats)
        if sweep:
            counts.clear_others(listed)
            self._sweep_stats.discard(use_case)


def _erased_by(tombstone: Tombstone, held: Entity | None) -> bool:
    """Tell whether what is held was stored before the erasure; a tombstone may be listed again."""
    return held is None or held.update_time is None or held.update_time <= tombstone.erase_time


def _name(change: Entity | Tombstone) -> str:
    if isinstance(change, Tombstone):
        return f"{change.kind}#{change.id_hash}"
    return f"{change.key.kind}/{change.key.id}"


def _stats_feed(lists: CatalogueLists, use_case: str) -> Feed[ItemStats]:
    return Feed(
        lambda start, token: lists.item_stats(use_case, start, token), name=lambda stats: stats.item_id
    )
