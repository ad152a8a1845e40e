"""What a job's process owes its operators: logs as JSON lines, one id for all its calls, its traces."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from matchloop.errors import MatchloopError
from matchloop.observe import faults, logs, tracing
from matchloop.rpc import spans
from matchloop.rpc.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logs.get_logger()


class JobSettings(BaseSettings):
    """``MATCHLOOP_LOG_LEVEL``: a job prints its results; beside them it logs trouble, or more if asked."""

    model_config = SettingsConfigDict(env_prefix="MATCHLOOP_", env_ignore_empty=True, frozen=True)

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "WARNING", description="Least level that goes to stderr."
    )


@contextmanager
def job(service: str, command: str) -> Iterator[None]:
    """Run a command as one request: its log lines and its calls to services bear one new id.

    Parameters
    ----------
    service, command
        Name the process in its logs and its trace.

    Raises
    ------
    InvalidInput
        For faulty ``MATCHLOOP_LOG_LEVEL`` or ``MATCHLOOP_TRACING_*``.
    SystemExit
        With code 1, in place of an error that is none of matchloop's: it is logged.
    """
    logs.configure_logging(read_settings(JobSettings).log_level, service=service)
    spans.begin(service)
    token = logs.request_id.set(logs.new_request_id())
    try:
        with tracing.span(f"{service} {command}") as span:
            span.set("matchloop.request_id", logs.request_id.get() or "")
            yield
    except MatchloopError:
        raise
    except Exception as error:  # noqa: BLE001 - told as a log may, not with what it quotes
        _log.error("job_failed", command=command, exception=faults.told(error))
        raise SystemExit(1) from None
    finally:
        logs.request_id.reset(token)
        tracing.close()
