"""A dislike's story as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from matchloop.entities import discrete_values
from matchloop.rpc.convert import read_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from matchloop.candidate.v1.candidate_pb2 import Contribution
    from matchloop.usecase import DislikeReason
    from playground.dislikes.catalogues import Catalogue
    from playground.dislikes.story import Shown, Story

TIMES = ("before", "next", "+90 days")
ABSENT = "·"


def print_story(
    console: Console, story: Story, catalogue: Catalogue, reason: DislikeReason, item: str
) -> None:
    """Print the receipt, the three lists, and why `item` stands where it does in each."""
    name = catalogue.name(catalogue.disliked)
    console.rule(f"[bold]{story.reason}[/] · {catalogue.use_case}", align="left")
    cut = f"its {' and '.join(reason.fields)} {reason.cut:.1%} less" if reason.cut else "no weight changes"
    console.print(f"{story.subject_id} rejects [bold]{name}[/]: it is hidden, {cut}\n")
    for part in (_receipt(story, catalogue), _lists(story, catalogue, reason), _why(story, catalogue, item)):
        console.print(part)
        console.print()


def _receipt(story: Story, catalogue: Catalogue) -> RenderableType:
    receipt = story.receipt
    hidden = ", ".join(catalogue.name(item_id) for item_id in receipt.hidden_item_ids)
    error = f"{receipt.prediction_error:.3f}" if receipt.HasField("prediction_error") else "none"
    table = _table(
        "receipt", "value", "weight before", "after", "half of it back on",
        caption=f"hidden: {hidden}; negative example: target 0, prediction error {error},"
        f" weight {receipt.example_weight:g}",
    )  # fmt: skip
    for change in receipt.weight_changes:
        table.add_row(
            change.feature,
            change.value,
            f"{change.factor_before:.3f}",
            f"[bold]{change.factor_after:.3f}[/]",
            read_time(change.half_life_time).date().isoformat(),
        )
    if not receipt.weight_changes:
        table.add_row("none", *[ABSENT] * 4)
    return table


def _lists(story: Story, catalogue: Catalogue, reason: DislikeReason) -> RenderableType:
    """Return rank, score and content score of every item in the three lists."""
    fields = reason.fields or tuple(catalogue.by_id[catalogue.disliked].features)[1:2]
    table = _table(
        "item",
        "/".join(fields),
        caption="rank and score in each list, and the content score, on which dislikes act; the score holds"
        " diversity too, and recency, which falls with time for every item",
    )
    for time in TIMES:
        table.add_column(time, justify="right")
        table.add_column("content", justify="right", style="bold")
    for item_id in story.before.items:
        features = catalogue.by_id[item_id].features
        values = ", ".join(value for name in fields for value in discrete_values(features.get(name)))
        cells = [cell for shown in story.lists for cell in _place(shown, item_id)]
        style = "dim" if item_id == catalogue.disliked else ""
        table.add_row(catalogue.name(item_id), values or ABSENT, *cells, style=style)
    return table


def _place(shown: Shown, item_id: str) -> tuple[str, str]:
    if item_id not in shown.items:
        return "hidden", ABSENT
    item = shown.items[item_id]
    return f"{item.rank}. {item.score:.3f}", f"{shown.content_score(item_id):.4f}"


def _why(story: Story, catalogue: Catalogue, item_id: str) -> RenderableType:
    table = _table(f"why {catalogue.name(item_id)}", *TIMES)
    accounts = [shown.content(item_id) if item_id in shown.items else {} for shown in story.lists]
    for field in dict.fromkeys(field for account in accounts for field in account):
        named = next(account[field].field for account in accounts if field in account)
        table.add_row(named, *(_part(account.get(field)) for account in accounts))
    return table


def _part(part: Contribution | None) -> str:
    return ABSENT if part is None else " ".join(_words(part))


def _words(part: Contribution) -> Iterator[str]:
    yield f"{part.amount:+.4f}"
    factors = {cut.value: cut.factor for cut in part.factors}
    if part.values:
        named = (
            f"{value} [bold]×{factors[value]:.3f}[/]" if value in factors else value for value in part.values
        )
        yield ", ".join(named)


def _table(*columns: str, caption: str | None = None) -> Table:
    return Table(*columns, header_style="bold", caption=caption, caption_justify="left")
