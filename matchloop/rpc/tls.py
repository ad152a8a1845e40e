"""TLS from files: what a server shows and asks for, what a client does; both read anew when files change."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import grpc

from matchloop.observe import logs
from matchloop.rpc.watched import Watched

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BEGIN_SECONDS = 0.05
"""In which a handshake that has its configuration begins; it takes microseconds."""

_UTC_TIME, _VERSION = 0x17, 0xA0
_log = logs.get_logger()


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where one side of TLS is kept, PEM.

    Parameters
    ----------
    certificate, key
        Own chain, leaf first, and its key without a password; None: none is shown.
    authorities
        Whom to trust on the other side; None: nobody is asked who they are.
    """

    certificate: Path | None = None
    key: Path | None = None
    authorities: Path | None = None

    def all(self) -> tuple[Path, ...]:
        """Return those there are."""
        return tuple(file for file in (self.certificate, self.key, self.authorities) if file is not None)


@dataclass(frozen=True, slots=True, repr=False)
class TlsMaterial:
    """What `TlsFiles` held when they were read; `expires` is when the own certificate does."""

    certificate: bytes | None
    key: bytes | None
    authorities: bytes | None
    expires: datetime | None


def read_tls(files: TlsFiles) -> TlsMaterial:
    """Read what belongs together.

    Raises
    ------
    OSError
        If a file cannot be read, holds no PEM, or a key is another certificate's; the message names the file.
    """
    chain = None
    if files.certificate is not None and files.key is not None:
        _tried(files.certificate, lambda: _check_pair(files))
        chain = files.certificate.read_bytes()
    if files.authorities is not None:
        _tried(files.authorities, lambda: ssl.create_default_context(cafile=str(files.authorities)))
    return TlsMaterial(
        certificate=chain,
        key=files.key.read_bytes() if files.key is not None else None,
        authorities=files.authorities.read_bytes() if files.authorities is not None else None,
        expires=not_after(chain) if chain is not None else None,
    )


def _check_pair(files: TlsFiles) -> None:
    assert files.certificate is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key, password=lambda: b"")  # never asks a terminal


def _tried(file: Path, check: Callable[[], object]) -> None:
    """Run a check of ssl's, whose errors name no file."""
    try:
        check()
    except ssl.SSLError as error:
        raise OSError(f"{file}: cannot be used: {error.reason or error}") from None
    except OSError as error:
        raise OSError(f"{file}: {error.strerror or error}") from None


def watch(
    files: TlsFiles,
    *,
    seen: Callable[[TlsMaterial], None] = lambda _: None,
    failed: Callable[[], None] = lambda: None,
) -> Watched[TlsMaterial]:
    """Return the files' content, read again when they change; `seen` is told of each reading.

    Raises
    ------
    OSError
        As `read_tls`.
    """

    def read() -> TlsMaterial:
        material = read_tls(files)
        if material.expires is not None and material.expires <= datetime.now(UTC):
            _log.warning("certificate_expired", file=str(files.certificate), expired=str(material.expires))
        seen(material)
        return material

    return Watched(files.all(), read, failed=failed)


def server_credentials(watched: Watched[TlsMaterial]) -> grpc.ServerCredentials:
    """Return credentials that show, to each new connection, the certificate that is newest then.

    With authorities a client has to show a certificate of theirs.
    """
    given = watched.current()

    def if_new() -> grpc.ServerCertificateConfiguration | None:
        # gRPC frees what it made of the configuration before while another handshake, which has asked here
        # already, may be about to use it (grpc/grpc#36693). So: nothing where nothing changed, and after a
        # change a pause, in which gRPC lets nobody else ask, and those who did begin.
        nonlocal given
        newest = watched.current()
        if newest is given:
            return None
        given = newest
        time.sleep(BEGIN_SECONDS)
        return _configuration(newest)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(given),
        if_new,  # type: ignore[arg-type]  # gRPC takes None for "nothing new"; its stubs do not say so
        require_client_authentication=given.authorities is not None,
    )


def _configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    assert material.key is not None, "a server has a certificate"
    assert material.certificate is not None
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.certificate)], root_certificates=material.authorities
    )


def channel_credentials(material: TlsMaterial) -> grpc.ChannelCredentials:
    """Return what a client shows and trusts; a channel keeps what it was opened with."""
    return grpc.ssl_channel_credentials(
        root_certificates=material.authorities,
        private_key=material.key,
        certificate_chain=material.certificate,
    )


def not_after(pem: bytes) -> datetime:
    """Return when the first certificate of a chain expires (RFC 5280, 4.1: tbsCertificate.validity.notAfter).

    Raises
    ------
    ValueError
        If there is none in it.
    """
    begin, end = pem.find(b"-----BEGIN CERTIFICATE-----"), pem.find(b"-----END CERTIFICATE-----")
    if begin < 0 or end < begin:
        raise ValueError("no certificate")
    der = ssl.PEM_cert_to_DER_cert(pem[begin:end].decode("ascii") + "-----END CERTIFICATE-----\n")
    certificate = _parts(_parts(der)[0][1])[0][1]
    fields = [part for part in _parts(certificate) if part[0] != _VERSION]
    _serial, _algorithm, _issuer, validity = fields[:4]
    tag, moment = _parts(validity[1])[1]
    text = moment.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: 50 and later are of the last century
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _parts(der: bytes) -> list[tuple[int, bytes]]:
    """Return tag and content of each value that follows another (X.690: definite lengths, short tags)."""
    found, at = [], 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            width = length & 0x7F
            length, at = int.from_bytes(der[at : at + width]), at + width
        found.append((tag, der[at : at + length]))
        at += length
    return found
