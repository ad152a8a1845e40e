"""What data sets hold, as tables to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from training_jobs.datasets import DatasetManifest


def dataset_tables(
    manifests: Sequence[DatasetManifest], few: Mapping[str, str], *, title: str
) -> tuple[Table, Table, Table]:
    """Return what is in each data set, its counts by label and source, and its weights by rank.

    Parameters
    ----------
    few
        By data set that has too little to train on: why.
    """
    return (_overview(manifests, few, title), _counts(manifests), _weights(manifests))


def _overview(manifests: Sequence[DatasetManifest], few: Mapping[str, str], title: str) -> Table:
    table = Table(title=title)
    for heading in ("data set", "examples", "subjects", "items", "first", "last", "sha256"):
        table.add_column(heading, no_wrap=True)
    for found in manifests:
        first, last = (f"{time:%Y-%m-%d}" if time else "-" for time in (found.first_time, found.last_time))
        numbers = [f"{count:,}" for count in (found.rows, found.subjects, found.items)]
        table.add_row(found.name, *numbers, first, last, found.sha256[:12])
    if few:
        table.caption = "too few examples: " + "; ".join(few.values())
        table.caption_justify = "left"
    return table


def _counts(manifests: Sequence[DatasetManifest]) -> Table:
    table = Table("data set", "counted by", "value", "examples", "share", title="by label and by source")
    for found in manifests:
        for by, counts in (("label", found.labels), ("source", found.sources)):
            for value, count in sorted(counts.items()):
                table.add_row(found.name, by, value, f"{count:,}", f"{count / max(found.rows, 1):.1%}")
    return table


def _weights(manifests: Sequence[DatasetManifest]) -> Table:
    ranks = sorted({rank for found in manifests for rank in found.weights})
    table = Table("data set", *map(str, ranks), title="what a pair shown at a rank is worth")
    for found in manifests:
        if found.weights:
            table.add_row(found.name, *(f"{found.weights[rank]:.2f}" for rank in ranks))
    return table
