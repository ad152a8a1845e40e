"""Every metric of the services in one table: the body of `Metrics`. Those of jobs are in `job_metrics`.

A deployable makes one `Metrics` and hands it to who needs it; importing this module registers nothing.
Labels are closed or user-configured sets (services, methods, use cases, reasons): never ids of entities.
A counter that an alert asks for increases of is shown as 0 by its owner before it counts: Prometheus sees no
increase in a series that begins with 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterator

M = TypeVar("M", Counter, Gauge, Histogram)

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Latency buckets, seconds; the promised bounds (1 ms, 50 ms) are edges."""


@dataclass(frozen=True, slots=True)
class MetricSpec(Generic[M]):
    """One row of the table.

    On the class of a table the attribute is this row; on an instance it is the prometheus metric.

    Parameters
    ----------
    kind
        The prometheus_client class.
    name
        Full name; a counter is exposed with ``_total`` behind it.
    help
        What one unit means, for the dashboard's reader.
    labels
        Label names, in the order `labels()` takes them.
    """

    kind: type[M]
    name: str
    help: str
    labels: tuple[str, ...]

    @overload
    def __get__(self, instance: None, owner: type) -> MetricSpec[M]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> M: ...
    def __get__(self, instance: object | None, owner: type) -> MetricSpec[M] | M:
        if instance is None:
            return self
        raise AttributeError(f"{owner.__name__}() was not called")

    def build(self, registry: CollectorRegistry) -> M:
        """Make the metric on `registry`."""
        extra: dict[str, Any] = {"buckets": SECONDS} if issubclass(self.kind, Histogram) else {}
        return self.kind(self.name, self.help, self.labels, registry=registry, **extra)


def counter(name: str, help_: str, *labels: str) -> MetricSpec[Counter]:
    """Return the row of a counter; its name is given without ``matchloop_`` and ``_total``."""
    return MetricSpec(Counter, f"matchloop_{name}", help_, labels)


def gauge(name: str, help_: str, *labels: str) -> MetricSpec[Gauge]:
    """Return the row of a gauge; its name is given without ``matchloop_``."""
    return MetricSpec(Gauge, f"matchloop_{name}", help_, labels)


def seconds(name: str, help_: str, *labels: str) -> MetricSpec[Histogram]:
    """Return the row of a histogram; its name is given without ``matchloop_`` and ``_seconds``."""
    return MetricSpec(Histogram, f"matchloop_{name}_seconds", help_, labels)


class MetricTable:
    """Metrics of one process, a row each in the body of the class.

    Parameters
    ----------
    registry
        Where they are registered; a registry of its own when None, so that several services (tests, the
        laptop) can live in one process.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        for attribute, spec in self._rows():
            setattr(self, attribute, spec.build(self.registry))

    @classmethod
    def _rows(cls) -> Iterator[tuple[str, MetricSpec[Any]]]:
        return ((name, row) for name, row in vars(cls).items() if isinstance(row, MetricSpec))

    @classmethod
    def table(cls) -> tuple[MetricSpec[Any], ...]:
        """Return every row, in the order written."""
        return tuple(row for _, row in cls._rows())

    def value(self, name: str, **labels: str) -> float:
        """Return the value of the sample `name` with exactly these labels; 0.0 when it never moved."""
        return self.registry.get_sample_value(name, labels) or 0.0


class Metrics(MetricTable):
    """What a service shows when it is scraped."""

    grpc_requests = counter("grpc_requests", "Answered calls.", "service", "method", "code")
    grpc_latency = seconds("grpc_request", "Arrival to answer, queueing included.", "service", "method")
    grpc_in_flight = gauge("grpc_in_flight", "Calls accepted and not yet answered.")
    unexpected_errors = counter("unexpected_errors", "Bugs: answered INTERNAL.", "service", "method")
    refused_calls = counter(
        "refused_calls", "Calls refused to a client.", "service", "method", "client", "reason"
    )
    secrets_refused = counter("secrets_refused", "Changed files that could not be used.", "what")
    certificate_expiry = gauge("certificate_expiry_timestamp_seconds", "When the certificate shown expires.")
    flush_failures = counter("flush_failures", "Shutdown steps that failed.", "step")

    upstream_failures = counter(
        "upstream_failures", "Calls to another service that failed.", "upstream", "reason"
    )
    circuit_open = gauge(
        "circuit_open", "1 while a neighbour that hangs is hardly asked, else 0.", "upstream"
    )
    candidates = counter("candidates", "Candidates returned.", "use_case", "method")
    method_skips = counter("method_skips", "Retrieval methods passed over.", "use_case", "method", "reason")
    degraded = counter("degraded", "Replies given without a part.", "use_case", "part")
    stage_latency = seconds("stage", "Time of one stage of a call.", "stage")
    recommendations = counter("recommendations", "Lists recommended.", "use_case", "tier")
    unranked = counter("unranked", "Lists with reranked = false.", "use_case", "reason")
    served = counter(
        "served", "Lists asked for, by what became of them.", "use_case", "arm", "release", "outcome"
    )
    served_latency = seconds("served", "Time to make a list.", "use_case", "arm", "release")

    experiment_share = gauge("experiment_share", "Of subjects for the challenger; 0: none runs.", "use_case")
    experiment_subjects = gauge("experiment_subjects", "Subjects with a list.", "use_case", "arm")
    experiment_rate = gauge(
        "experiment_rate", "Per item shown; bound: rate, low, high.", "use_case", "arm", "reaction", "bound"
    )
    experiment_difference = gauge(
        "experiment_difference", "Challenger minus champion.", "use_case", "reaction", "bound"
    )
    experiment_sample_ratio = gauge(
        "experiment_sample_ratio_p_value", "Small: the dealing is broken.", "use_case"
    )
    explored_lists = counter("explored_lists", "Lists with propensities logged.", "use_case", "order")

    spool_depth = gauge("spool_depth", "Sessions waiting on disk for the store.")
    spool_dropped = counter("spool_dropped", "Sessions lost because the spool was full.")
    mirror_entities = gauge("mirror_entities", "Entities in the catalogue mirror.", "kind")
    mirror_lag = gauge("mirror_lag_seconds", "Time since the mirror last caught up with the store.")

    release_info = gauge("release_info", "1 for the release that serves.", "use_case", "alias", "release")
    release_age = gauge("release_age_seconds", "Age of the release that serves.", "use_case", "alias")
    release_refused = counter("release_refused", "Releases fetched and refused.", "use_case", "reason")
    release_poll_failures = counter("release_poll_failures", "Registry polls that failed.", "use_case")

    sessions = counter("sessions", "Sessions stored.", "use_case", "source")
    interactions = counter("interactions", "Interactions stored.", "use_case", "event_type", "source")
    dislikes = counter("dislikes", "Dislikes stored.", "use_case", "reason")
    erasures = counter("erasures", "Entities erased.", "kind")

    negatives_waiting = gauge("negatives_waiting", "Dislikes that no training has used.", "use_case")
    negatives_mean_error = gauge(
        "negatives_mean_error", "Mean prediction error of those that have one; 0 for none.", "use_case"
    )
    retraining_due = gauge("retraining_due", "1 when a retraining is due, else 0.", "use_case")
    last_stored = gauge(
        "last_stored_timestamp_seconds",
        "When this process stored the latest; record: sessions, interactions, dislikes.",
        "use_case",
        "record",
    )
    listed_items = gauge(
        "listed_items", "Items on the latest lists, of an hour unless set.", "use_case", "arm", "release"
    )
    listed_subjects = gauge(
        "listed_subjects", "Subjects with one of the latest lists.", "use_case", "arm", "release"
    )
    reaction_rate = gauge(
        "reaction_rate",
        "Per item on the latest lists; reaction: click, strong_positive, dislike.",
        "use_case",
        "arm",
        "release",
        "reaction",
    )
    acts = counter("acts", "Acts of jobs and people recorded.", "use_case", "kind")
    experiment_running = gauge("experiment_running", "1 while an experiment runs, else 0.", "use_case")
