"""Leases, acts and experiments in PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, select, tuple_

from feedback_svc.operations.experiments import ExperimentPosition, missing, started
from feedback_svc.operations.leases import Grant
from feedback_svc.store.postgres.database import Database
from feedback_svc.store.postgres.literals import number_array, optional_number_array, text_array
from feedback_svc.store.postgres.tables import ActRow, ExperimentRow
from matchloop.acts import Act, ActKind, ActNumber
from matchloop.errors import Overloaded
from matchloop.experiments.experiment import Experiment
from matchloop.leases import Lease

# `feedback_svc.operations.leases.ask` in one statement, which holds the row: of two that come at once the
# second sees what the first did.
ACQUIRE = """
INSERT INTO leases AS kept (name, holder, acquire_time, expire_time)
VALUES (%(name)s, %(holder)s, %(now)s, %(until)s)
ON CONFLICT (name) DO UPDATE SET
    holder = CASE WHEN kept.expire_time <= %(now)s THEN excluded.holder ELSE kept.holder END,
    acquire_time =
        CASE WHEN kept.expire_time <= %(now)s THEN excluded.acquire_time ELSE kept.acquire_time END,
    expire_time = CASE
        WHEN kept.expire_time <= %(now)s THEN excluded.expire_time
        WHEN kept.holder = excluded.holder THEN greatest(kept.expire_time, excluded.expire_time)
        ELSE kept.expire_time END
RETURNING name, holder, acquire_time, expire_time
"""
RELEASE = "DELETE FROM leases WHERE name = %s AND holder = %s AND expire_time > %s"
RECORD_ACT = """
INSERT INTO acts (act_id, use_case, kind, automatic, release, reason, number_names, number_values,
    thresholds, act_time)
VALUES (%s, %s, %s, %s, %s, %s, %s::text[], %s::float8[], %s::float8[], %s)
ON CONFLICT (act_id) DO NOTHING
"""
START = """
INSERT INTO experiments (experiment_id, use_case, challenger_share, champion_release, challenger_release,
    start_time, stop_reason)
VALUES (%s, %s, %s, %s, %s, %s, '') ON CONFLICT DO NOTHING
"""
STOP = """
UPDATE experiments SET stop_time = coalesce(stop_time, greatest(start_time, %s)),
    stop_reason = CASE WHEN stop_time IS NULL THEN %s ELSE stop_reason END
WHERE experiment_id = %s RETURNING *
"""
TURNS = 3
"""Of a start: the one that stood in its way may be stopped before it is looked at."""


class PostgresOperations:
    """The part of the store for jobs and operators."""

    _database: Database

    def acquire_lease(self, name: str, holder: str, *, duration: timedelta, now: datetime) -> Grant:
        """Answer who asks for a lease; of two at once one wins."""
        parameters = {"name": name, "holder": holder, "now": now, "until": now + duration}
        row = self._database.run(lambda connection: connection.exec_driver_sql(ACQUIRE, parameters).one())
        lease = Lease(row.name, row.holder, row.acquire_time, row.expire_time)
        return Grant(lease.holder == holder, lease)

    def release_lease(self, name: str, holder: str, *, now: datetime) -> bool:
        """Give a lease back; False, and nothing changes, when it is not the holder's any more."""
        return self._changes(RELEASE, (name, holder, now))

    def record_act(self, act: Act) -> bool:
        """Store an act; False when one with its id was stored before."""
        numbers = act.numbers
        parameters = (
            act.act_id,
            act.use_case,
            act.kind.value,
            act.automatic,
            act.release,
            act.reason,
            text_array([number.name for number in numbers]),
            number_array([number.value for number in numbers]),
            optional_number_array([number.threshold for number in numbers]),
            act.act_time,
        )
        return self._changes(RECORD_ACT, parameters)

    def _changes(self, statement: str, parameters: tuple[Any, ...]) -> bool:
        """Run a statement that changes one row or none; say which."""
        return self._database.run(
            lambda connection: connection.exec_driver_sql(statement, parameters).rowcount == 1
        )

    def list_acts(
        self, use_case: str, kinds: Collection[ActKind], *, after: tuple[datetime, str] | None, limit: int
    ) -> list[Act]:
        """List by act time and id, latest first, from after one."""
        position = (ActRow.act_time, ActRow.act_id)
        statement = select(ActRow.__table__)
        if use_case:
            statement = statement.where(ActRow.use_case == use_case)
        if kinds:
            statement = statement.where(ActRow.kind.in_([kind.value for kind in kinds]))
        if after is not None:
            statement = statement.where(tuple_(*position) < after)
        statement = statement.order_by(*(column.desc() for column in position)).limit(limit)
        rows = self._database.run(lambda connection: connection.execute(statement).all())
        return [_act_of(row) for row in rows]

    def start_experiment(self, experiment: Experiment) -> Experiment:
        """Store an experiment, one that runs a use case; return it as stored; raises Conflict."""
        parameters = (
            experiment.experiment_id,
            experiment.use_case,
            experiment.challenger_share,
            experiment.champion_release,
            experiment.challenger_release,
            experiment.start_time,
        )

        def work(connection: Connection) -> Experiment:
            for _ in range(TURNS):
                if connection.exec_driver_sql(START, parameters).rowcount == 1:
                    return experiment
                same_id = _one(connection, ExperimentRow.experiment_id == experiment.experiment_id)
                running = _one(
                    connection,
                    ExperimentRow.use_case == experiment.use_case,
                    ExperimentRow.stop_time.is_(None),
                )
                if same_id or running:
                    return started(experiment, same_id=same_id, running=running)
            raise Overloaded(f"experiments of `{experiment.use_case}` start and stop too fast")

        return self._database.transact(work)

    def stop_experiment(self, experiment_id: str, *, reason: str, now: datetime) -> Experiment:
        """Stop an experiment unless it is; return it as stored; raises NotFound."""
        parameters = (now, reason, experiment_id)
        row = self._database.run(
            lambda connection: connection.exec_driver_sql(STOP, parameters).one_or_none()
        )
        if row is None:
            raise missing(experiment_id)
        return _experiment_of(row)

    def list_experiments(
        self, use_case: str, *, after: ExperimentPosition | None, limit: int
    ) -> list[Experiment]:
        """List by position, from after one; `use_case` empty: of all."""
        position = (ExperimentRow.stop_time.is_(None), ExperimentRow.start_time, ExperimentRow.experiment_id)
        statement = select(ExperimentRow.__table__)
        if use_case:
            statement = statement.where(ExperimentRow.use_case == use_case)
        if after is not None:
            statement = statement.where(
                tuple_(*position) < (after.runs, after.start_time, after.experiment_id)
            )
        statement = statement.order_by(*(column.desc() for column in position)).limit(limit)
        rows = self._database.run(lambda connection: connection.execute(statement).all())
        return [_experiment_of(row) for row in rows]


def _one(connection: Connection, *conditions: Any) -> Experiment | None:
    row = connection.execute(select(ExperimentRow.__table__).where(*conditions)).one_or_none()
    return None if row is None else _experiment_of(row)


def _act_of(row: Row[Any]) -> Act:
    columns = zip(row.number_names, row.number_values, row.thresholds, strict=True)
    return Act(
        act_id=row.act_id,
        use_case=row.use_case,
        kind=ActKind(row.kind),
        automatic=row.automatic,
        release=row.release,
        reason=row.reason,
        numbers=tuple(ActNumber(*number) for number in columns),
        act_time=row.act_time,
    )


def _experiment_of(row: Row[Any]) -> Experiment:
    return Experiment(
        experiment_id=row.experiment_id,
        use_case=row.use_case,
        challenger_share=row.challenger_share,
        champion_release=row.champion_release,
        challenger_release=row.challenger_release,
        start_time=row.start_time,
        stop_time=row.stop_time,
        stop_reason=row.stop_reason,
    )
