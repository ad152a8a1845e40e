"""Certificates and tokens for a stack on one machine: everything that a cluster's operator would give it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matchloop.rpc.credentials import ClientCredentials, ClientSettings
from matchloop.rpc.tokens import Scope, entry, new_token
from playground.certificates import Authority, write_secret

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

YOU = "you"
JOBS = "jobs"
HOLDERS: Mapping[str, frozenset[Scope]] = {
    "candidate_svc": frozenset({Scope.READ}),
    "ranking_svc": frozenset({Scope.READ, Scope.FEEDBACK}),
    JOBS: frozenset({Scope.READ, Scope.ADMIN}),
    YOU: frozenset(Scope),
}
SERVERS = ("feedback_svc", "candidate_svc", "ranking_svc")


class LocalSecurity:
    """Certificates for servers and clients and a token for each client.

    Parameters
    ----------
    folder
        Where they are kept; readable by its owner alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._authority = self._folder / "ca.pem"
        self.tokens_file = self._folder / "tokens.toml"

    def make(self) -> None:
        """Make everything anew, in place of what was there before."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority, entries = Authority(self._folder, "ca"), []
        for name in {*SERVERS, *HOLDERS}:
            authority.issue(name)
        for name, scopes in HOLDERS.items():
            token = new_token()
            write_secret(self._folder / f"{name}.token", token.encode())
            entries.append(entry(name, token, scopes, None))
        write_secret(self.tokens_file, "\n".join(entries).encode())

    def serving(self, service: str) -> dict[str, str]:
        """Return a server's settings, without its prefix."""
        return {
            "TLS_CERT_FILE": str(self._folder / f"{service}.pem"),
            "TLS_KEY_FILE": str(self._folder / f"{service}.key"),
            "TLS_CLIENT_CA_FILE": str(self._authority),
            "TOKENS_FILE": str(self.tokens_file),
        }

    def calling(self, name: str = YOU) -> dict[str, str]:
        """Return the environment of who calls: one of `HOLDERS`, or a service that calls nobody."""
        return {f"MATCHLOOP_CLIENT_{key.upper()}": str(file) for key, file in self._shown(name).items()}

    def credentials(self, name: str = YOU) -> ClientCredentials:
        """Return the same for a client in this process."""
        return ClientCredentials(ClientSettings.model_validate(self._shown(name)))

    def _shown(self, name: str) -> dict[str, Path]:
        shown = {
            "ca_file": self._authority,
            "cert_file": self._folder / f"{name}.pem",
            "key_file": self._folder / f"{name}.key",
        }
        return {**shown, "token_file": self._folder / f"{name}.token"} if name in HOLDERS else shown
