"""A certificate authority of one's own: for a laptop and for tests, not for production (docs/secure.md)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LASTS = timedelta(days=365)
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path


class Authority:
    """Issues certificates into a folder, and is trusted by who is given its `certificate`.

    Parameters
    ----------
    folder
        Made when it is not there; keys are readable by their owner alone.
    name
        Of the authority, and of its file: ``NAME.pem``.
    """

    def __init__(self, folder: Path, name: str = "ca") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(f"matchloop {name}")
        now = datetime.now(UTC)
        made = (
            _builder(self._name, self._name, self._key, now - timedelta(minutes=5), now + LASTS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = folder / f"{name}.pem"
        write_secret(self.certificate, made.public_bytes(Encoding.PEM))

    def issue(
        self,
        name: str,
        *,
        hosts: Sequence[str] = LOCAL_HOSTS,
        from_time: datetime | None = None,
        to_time: datetime | None = None,
    ) -> Issued:
        """Issue a certificate into ``NAME.pem`` and ``NAME.key``, in place of what is there.

        Parameters
        ----------
        hosts
            Names and addresses that a server with it may be called at.
        from_time, to_time
            When it holds; a year from five minutes ago.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        begin, end = from_time or now - timedelta(minutes=5), to_time or now + LASTS
        made = (
            _builder(_named(name), self._name, key, begin, end)
            .add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        issued = Issued(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_secret(issued.key, private)
        write_secret(issued.certificate, made.public_bytes(Encoding.PEM))
        return issued


def write_secret(file: Path, content: bytes) -> None:
    """Write a file that only its owner reads, in one step: nobody sees half of it."""
    whole = file.with_name(file.name + ".new")
    with os.fdopen(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(content)
    whole.replace(file)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begin: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
