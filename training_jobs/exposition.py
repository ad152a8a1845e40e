"""What ranking_svc's ``/metrics`` say of the lists it made: how many, how many failed, how many were slow."""

from __future__ import annotations

import http.client
import socket
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from matchloop.observe import faults
from matchloop.observe.logs import get_logger

COUNTS = "matchloop_served_total"
BUCKETS = "matchloop_served_seconds_bucket"
FINE = "ok"
TIMEOUT_SECONDS = 5.0

Key = tuple[str, str]
"""An arm and a release."""

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Requests:
    """Lists asked for: all, those that something of the release failed at, and those that took long."""

    made: float = 0.0
    failed: float = 0.0
    slow: float = 0.0

    def plus(self, other: Requests) -> Requests:
        """Return the sum of both."""
        return Requests(self.made + other.made, self.failed + other.failed, self.slow + other.slow)


NO_REQUESTS = Requests()


def read_requests(urls: Iterable[str], use_case: str, *, slow_seconds: float) -> dict[Key, Requests]:
    """Return the lists of a use case by arm and release, summed over processes since each started.

    A name that stands for several addresses (a headless Service) is asked at each of them. A process that
    does not answer, or not with metrics, is left out, and the log says so.

    Parameters
    ----------
    urls
        ``http://`` addresses of every process's metrics.
    slow_seconds
        Lists over it are slow; the next edge of the histogram counts.

    Raises
    ------
    ValueError
        If a URL is none of HTTP.
    """
    found: dict[Key, Requests] = {}
    for url in (each for given in urls for each in _addresses(given)):
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as reply:  # noqa: S310 - checked above
                told = requests_in(reply.read().decode(), use_case, slow_seconds=slow_seconds)
        except (OSError, ValueError, http.client.HTTPException) as error:
            _log.warning("metrics_not_read", url=url, error=faults.said(error))
            continue
        for key, requests in told.items():
            found[key] = found.get(key, Requests()).plus(requests)
    return found


def _addresses(url: str) -> list[str]:
    """Return a URL for every address of its host; https keeps the name, which the certificate is for."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{url} is no http URL")
    if parts.scheme == "https" or parts.hostname is None:
        return [url]
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    except OSError:
        return [url]
    hosts = dict.fromkeys(f"[{a[0]}]" if ":" in str(a[0]) else str(a[0]) for *_, a in found)
    return [urlunsplit(parts._replace(netloc=f"{host}:{parts.port or 80}")) for host in hosts]


def requests_in(text: str, use_case: str, *, slow_seconds: float) -> dict[Key, Requests]:
    """Return what one exposition says; see `read_requests`."""
    samples = [
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in (COUNTS, BUCKETS) and sample.labels["use_case"] == use_case
    ]
    found: dict[Key, Requests] = {}
    for sample in samples:
        if sample.name == COUNTS:
            failed = 0.0 if sample.labels["outcome"] == FINE else sample.value
            one = Requests(sample.value, failed)
            found[_key(sample.labels)] = found.get(_key(sample.labels), Requests()).plus(one)
    for key in found:
        slow = _slow([s for s in samples if s.name == BUCKETS and _key(s.labels) == key], slow_seconds)
        found[key] = found[key].plus(Requests(slow=slow))
    return found


def _slow(buckets: list[Sample], slow_seconds: float) -> float:
    """Return how many observations are over the first edge at or over `slow_seconds`."""
    counts = sorted((float(bucket.labels["le"]), bucket.value) for bucket in buckets)
    if not counts:
        return 0.0
    return counts[-1][1] - next(count for edge, count in counts if edge >= slow_seconds)


def _key(labels: Mapping[str, str]) -> Key:
    return labels["arm"], labels["release"]
