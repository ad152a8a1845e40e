"""Give entities the embedding they lack, derived from their texts: ``python -m feedback_svc.embed``.

Looks at every entity of a kind that has embedding and text features in some use case; those that bring an
embedding, and those that have one by this embedder, are left alone. Run again, it goes on with what lacks
one; run with another embedder, it replaces what the first one made. Vectors are as wide as the use case says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from feedback_svc.command import run, told
from feedback_svc.embeddings import embed_kind, embedded_kinds
from feedback_svc.settings import UseCaseSettings
from feedback_svc.store.postgres import PostgresStore
from feedback_svc.store.postgres.database import Database
from feedback_svc.store.protocol import Store
from matchloop.features import load_embedder
from matchloop.rpc.settings import read_settings
from matchloop.usecase import UseCases, load_use_cases


def embed(store: Store, use_cases: UseCases, path: Path | None, *, batch: int) -> dict[str, int]:
    """Embed every kind, with progress shown; return how many vectors were written, by kind.

    Raises
    ------
    InvalidInput
        When there is no embedder at `path`, or it is not as wide as a use case says.
    """
    kinds = embedded_kinds(use_cases)
    embedders = {width: load_embedder(path, width) for width in sorted({kind.width for kind in kinds})}
    columns = (SpinnerColumn(), TextColumn("{task.description:<16} {task.completed} embedded"))
    counts = {}
    with Progress(*columns, TimeElapsedColumn()) as progress:
        for kind in kinds:
            task = progress.add_task(kind.kind, total=None)
            counts[kind.kind] = embed_kind(
                store,
                kind,
                embedders[kind.width],
                batch=batch,
                after_batch=lambda n, task=task: progress.advance(task, n),  # type: ignore[misc]
            )
            progress.update(task, total=counts[kind.kind])
    return counts


def main(
    embedder: Annotated[
        Path | None,
        typer.Option(help="Folder of a sentence-transformer; left out: the built-in hashing embedder."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=5000, help="Entities looked at together.")] = 500,
) -> None:
    """Embed what lacks an embedding. Exit codes: 0 done, 1 broken off, 2 faulty settings or embedder."""
    with told():
        settings = read_settings(UseCaseSettings)
        store = PostgresStore(Database(settings.database_url, pool_size=1))
        try:
            counts = embed(store, load_use_cases(*settings.use_case_folders), embedder, batch=batch)
        finally:
            store.close()
    for kind, count in counts.items():
        typer.echo(f"{kind}: {count} embedded")


if __name__ == "__main__":
    run(main, "embed")
