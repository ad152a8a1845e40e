"""What a client shows and trusts: ``MATCHLOOP_CLIENT_*``, for whatever calls a service."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from matchloop.errors import InvalidInput, Violation
from matchloop.rpc.settings import WholePrefix, is_loopback, read_settings
from matchloop.rpc.tls import TlsFiles, TlsMaterial, watch
from matchloop.rpc.watched import Watched

if TYPE_CHECKING:
    from collections.abc import Callable

AUTHORIZATION = "authorization"
_TOKEN = re.compile(r"[!-~]{1,512}")


class ClientSettings(WholePrefix):
    """``MATCHLOOP_CLIENT_*``: every file is read again when it changes."""

    model_config = SettingsConfigDict(env_prefix="MATCHLOOP_CLIENT_", env_ignore_empty=True, frozen=True)

    ca_file: Path | None = Field(None, description="PEM; whom to trust. None: connections are not secured.")
    cert_file: Path | None = Field(None, description="PEM, leaf first: what servers that ask are shown.")
    key_file: Path | None = Field(None, description="PEM, without a password.")
    token_file: Path | None = Field(None, description="Holds the token that goes with every call.")
    token: SecretStr | None = Field(None, repr=False, description="The token itself.")
    plaintext_tokens: bool = Field(
        default=False, description="Send it over connections without TLS: for a mesh that encrypts."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file are set together or not at all")
        if self.cert_file and not self.ca_file:
            raise ValueError("cert_file and key_file need ca_file")
        if self.token_file and self.token:
            raise ValueError("token_file and token are two tokens; one is sent")
        return self


class ClientCredentials:
    """What goes with the calls of a client; safe to use from several threads and channels.

    Parameters
    ----------
    settings
        Where it is kept; nothing: connections are not secured and no token is sent.

    Raises
    ------
    InvalidInput
        If a file cannot be used.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self._plaintext_tokens = settings.plaintext_tokens
        self._tls: Watched[TlsMaterial] | None = None
        self._token: Callable[[], str] | None = None
        try:
            if settings.ca_file is not None:
                self._tls = watch(TlsFiles(settings.cert_file, settings.key_file, settings.ca_file))
            if settings.token is not None:
                fixed = _checked(settings.token.get_secret_value(), "token")
                self._token = lambda: fixed
            elif (file := settings.token_file) is not None:
                self._token = Watched([file], lambda: _checked(file.read_text(), str(file))).current
        except (OSError, ValueError) as error:
            raise InvalidInput.of([Violation("MATCHLOOP_CLIENT_*", str(error))]) from None

    @classmethod
    def of_environment(cls) -> ClientCredentials:
        """Return what the environment says.

        Raises
        ------
        InvalidInput
            Naming what cannot be used, variables that are no setting too.
        """
        return cls(read_settings(ClientSettings))

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show and nobody to trust."""
        return self._tls is None and self._token is None

    def tls(self) -> TlsMaterial | None:
        """Return the newest certificates; another object when they have changed. None: no TLS."""
        return self._tls.current() if self._tls is not None else None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what goes with a call: the newest token, if there is one."""
        return () if self._token is None else ((AUTHORIZATION, f"Bearer {self._token()}"),)

    def check_target(self, address: str) -> None:
        """Refuse to send a token where others could read it.

        Raises
        ------
        InvalidInput
            If there is a token, but no TLS, and the target is not on this machine.
        """
        if self._token is None or self._tls is not None or self._plaintext_tokens:
            return
        host = address.rpartition("/")[2].rpartition(":")[0].strip("[]")
        if not (address.startswith("unix:") or is_loopback(host)):
            raise InvalidInput.of(
                [
                    Violation(
                        "MATCHLOOP_CLIENT_CA_FILE",
                        f"without TLS the token could be read on its way to {address};"
                        " see MATCHLOOP_CLIENT_PLAINTEXT_TOKENS",
                    )
                ]
            )


def _checked(text: str, where: str) -> str:
    token = text.strip()
    if not _TOKEN.fullmatch(token):
        raise ValueError(f"{where}: is not a token: one line of printable ASCII without spaces")
    return token
