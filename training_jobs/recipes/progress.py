"""Progress bars that stay quiet where nobody looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Bar:
    """One task of a progress display."""

    def __init__(self, progress: Progress, title: str, total: int) -> None:
        self._progress = progress
        self._title = title
        self._task = progress.add_task(title, total=total)

    def advance(self, note: str = "", *, steps: int = 1) -> None:
        """Count steps, with a few words on how it stands."""
        self._progress.update(self._task, advance=steps, description=f"{self._title} {note}".rstrip())


@contextmanager
def progress_bar(title: str, total: int, console: Console | None) -> Iterator[Bar]:
    """Show a bar on `console`; None, or a console that is no terminal, shows nothing."""
    hidden = console is None or not console.is_terminal
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=console or Console(quiet=True), disable=hidden, transient=True
    ) as progress:
        yield Bar(progress, title, total)
