"""What a job tells of itself when it ends, to the Pushgateway at ``MATCHLOOP_PUSHGATEWAY``; unset: to nobody.

A run replaces what it tells and leaves the rest that was told of its job and use case before: after one that
failed, when the job last succeeded and what that came to.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prometheus_client import pushadd_to_gateway

from matchloop.errors import MatchloopError
from matchloop.observe.logs import get_logger
from matchloop.observe.metrics import MetricTable, gauge

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

ADDRESS = "MATCHLOOP_PUSHGATEWAY"
TIMEOUT_SECONDS = 5.0
ON_PURPOSE = 2
"""Exit code of commands that end with a MatchloopError."""

_log = get_logger()


class JobMetrics(MetricTable):
    """What a run of a job comes to; jobs add the labels `job` and, where it is for one, `use_case`."""

    failed = gauge("job_failed", "1 when the last run failed, else 0.")
    exit_code = gauge("job_exit_code", "Of the last run.")
    seconds = gauge("job_seconds", "Duration of the last run.")
    last_run = gauge("job_last_run_timestamp_seconds", "When the last run ended.")
    last_success = gauge("job_last_success_timestamp_seconds", "When the last run that succeeded ended.")

    step_seconds = gauge("retrain_step_seconds", "Duration of a step that was not done before.", "step")
    promoted = gauge(
        "retrain_promoted", "1 when the release is champion, 0 when a gate refused it.", "release"
    )
    gate_value = gauge("gate_value", "What a gate measured.", "gate")
    gate_threshold = gauge("gate_threshold", "What it was held against.", "gate")
    gate_verdict = gauge(
        "gate_verdict", "1 for what the gate said: passed, refused, skipped.", "gate", "verdict"
    )

    drift_psi = gauge(
        "drift_psi", "PSI of what the champion serves against its training.", "use_case", "feature"
    )
    drift_bound = gauge("drift_bound", "What it is held against, chance included.", "use_case", "feature")
    drifted = gauge("drifted_features", "Over their bounds, and not by chance.", "use_case")

    snapshot_rows = gauge("snapshot_rows", "Rows of the snapshot.", "table")
    snapshot_read = gauge("snapshot_read_rows", "Rows that this run read.", "table")
    retention_deleted = gauge("retention_deleted_rows", "Rows that this run let go.", "kept")


@contextmanager
def told_job(name: str, use_case: str = "", *, fine: Collection[int] = (0,)) -> Iterator[JobMetrics]:
    """Tell what the block came to when it ends, however it does; what it raises goes on.

    A gateway that cannot be reached costs a line in the log, never the job.

    Parameters
    ----------
    name
        The label `job` is ``matchloop-`` and this.
    use_case
        The label `use_case`; empty: none.
    fine
        Exit codes of a run that did its work, whatever it found.

    Yields
    ------
    JobMetrics
        To be filled with what the run came to.
    """
    metrics, began = JobMetrics(), time.monotonic()
    code = 0
    try:
        yield metrics
    except BaseException as error:
        code = _exit_code(error)
        raise
    finally:
        metrics.exit_code.set(code)
        metrics.failed.set(code not in fine)
        metrics.seconds.set(time.monotonic() - began)
        metrics.last_run.set_to_current_time()
        if code in fine:
            metrics.last_success.set_to_current_time()
        else:
            metrics.registry.unregister(metrics.last_success)
        _push(metrics, name, use_case)


def _exit_code(error: BaseException) -> int:
    """Return the code a command will end with: typer's Exit and SystemExit bring it."""
    if isinstance(error, MatchloopError):
        return ON_PURPOSE
    code = getattr(error, "exit_code", getattr(error, "code", None))
    return code if isinstance(code, int) else 1


def _push(metrics: JobMetrics, name: str, use_case: str) -> None:
    gateway = os.environ.get(ADDRESS, "")
    if not gateway:
        return
    try:
        pushadd_to_gateway(
            gateway,
            job=f"matchloop-{name}",
            registry=metrics.registry,
            grouping_key={"use_case": use_case} if use_case else {},
            timeout=TIMEOUT_SECONDS,
        )
    except (OSError, ValueError) as error:
        _log.warning("metrics_not_pushed", gateway=gateway, job=name, error=str(error))
