"""A server's settings to what secures it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matchloop.errors import InvalidInput, Violation
from matchloop.rpc.tls import TlsFiles, TlsMaterial, watch

if TYPE_CHECKING:
    from matchloop.observe.metrics import Metrics
    from matchloop.rpc.settings import ServerSettings
    from matchloop.rpc.watched import Watched


def watch_tls(settings: ServerSettings, metrics: Metrics) -> Watched[TlsMaterial] | None:
    """Return the certificates of a server, None for one without TLS.

    Raises
    ------
    InvalidInput
        If they cannot be used.
    """
    if settings.tls_cert_file is None:
        return None

    def seen(material: TlsMaterial) -> None:
        if material.expires is not None:
            metrics.certificate_expiry.set(material.expires.timestamp())

    files = TlsFiles(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
    try:
        return watch(files, seen=seen, failed=metrics.secrets_refused.labels("tls").inc)
    except (OSError, ValueError) as error:
        raise InvalidInput.of([Violation(settings.variable("tls_*"), str(error))]) from None
