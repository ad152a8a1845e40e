"""A server's settings to what secures it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matchloop.errors import InvalidInput, Violation
from matchloop.rpc.guard import Guard, scopes_of
from matchloop.rpc.tls import TlsFiles, TlsMaterial, watch
from matchloop.rpc.tokens import read_tokens
from matchloop.rpc.watched import Watched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matchloop.observe.metrics import Metrics
    from matchloop.rpc.settings import ServerSettings


def build_guard(settings: ServerSettings, services: Sequence[str], metrics: Metrics) -> Guard | None:
    """Return what asks a server's clients for tokens and bounds their rate; None where nobody is asked.

    Parameters
    ----------
    services
        Full names of those served.

    Raises
    ------
    InvalidInput
        If the tokens cannot be used.
    """
    file = settings.tokens_file
    failed = metrics.secrets_refused.labels("tokens").inc
    if file is None and not settings.rate_per_client:
        return None
    holders = None
    if file is not None:
        try:
            holders = Watched([file], lambda: read_tokens(file), failed=failed).current
        except (OSError, ValueError) as error:
            raise InvalidInput.of([Violation(settings.variable("tokens_file"), str(error))]) from None
    return Guard(
        scopes_of(services),
        holders,
        rate=settings.rate_per_client,
        burst=settings.burst_per_client,
        metrics=metrics,
    )


def watch_tls(settings: ServerSettings, metrics: Metrics) -> Watched[TlsMaterial] | None:
    """Return the certificates of a server, None for one without TLS.

    Raises
    ------
    InvalidInput
        If they cannot be used.
    """
    failed = metrics.secrets_refused.labels("tls").inc
    if settings.tls_cert_file is None:
        return None

    def seen(material: TlsMaterial) -> None:
        if material.expires is not None:
            metrics.certificate_expiry.set(material.expires.timestamp())

    files = TlsFiles(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
    try:
        return watch(files, seen=seen, failed=failed)
    except (OSError, ValueError) as error:
        raise InvalidInput.of([Violation(settings.variable("tls_*"), str(error))]) from None
