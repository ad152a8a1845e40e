"""What fails, and what clients notice? ``python -m benchmarks.faults --seconds 60 --out FILE.json``.

A stack of real processes serves lists at a bounded rate and takes reactions. Row by row of the failure table
a process is killed, stopped, slowed down, flooded or cut off, and comes back; the load goes on throughout. Of
every row: lists asked for, failed, refused at once and answered with a part missing; how long they took; how
soon after the fault all was whole again; and what the store keeps of the sessions and reactions that were
acknowledged, read back one by one.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.fault_kinds import SECRET
from benchmarks.fault_load import FaultLoad
from benchmarks.fault_rows import ROWS, Row
from benchmarks.fault_world import World, fault_environment, fault_world, until
from benchmarks.report import Better, Out, Target, about, targets_table, write_report
from matchloop.usecase import load_use_cases
from playground.load import load_market
from playground.market import Market
from playground.stack import Ports, Stack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from benchmarks.fault_load import Answer

USE_CASE = "developer_startup"
REASON = "wrong_category"
REFUSED = "RESOURCE_EXHAUSTED"
METRIC_SECONDS = 10.0
BEFORE, DURING = 0.2, 0.5
"""Shares of a row's time before the fault and while it lasts."""

console = Console(width=None if sys.stdout.isatty() else 160)  # fourteen columns, in a file too


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of one row.

    Parameters
    ----------
    sent, failed, refused, degraded
        Lists: asked for; not answered, refusals apart; refused at once; answered with a part missing.
    seen
        Lists that were answered as the failure table says, while it failed.
    codes
        How lists and reactions failed.
    p50, p99
        Milliseconds of lists while it failed, refusals apart.
    refused_p99
        Milliseconds of refusals; 0 without any.
    whole_after
        Seconds from the end of the fault to the first whole list.
    reactions, sessions
        Acknowledged ones, that were looked for in the store.
    lost, doubled
        Of them.
    resent
        Calls with reactions that failed and were repeated.
    counted
        By how much the row's metric grew; None for a row without one.
    leaked
        Whether a message to a client held what was planted in the store.
    messages
        What clients were told, with lists that failed.
    """

    fails: str
    seconds: float
    sent: int
    failed: int
    refused: int
    degraded: int
    seen: int
    codes: dict[str, int]
    p50: float
    p99: float
    refused_p99: float
    whole_after: float
    sessions: int
    reactions: int
    lost: int
    doubled: int
    resent: int
    counted: float | None
    leaked: bool
    messages: tuple[str, ...]

    def faults(self, row: Row) -> list[str]:
        """Return in words what is not as the failure table promises."""
        found = {
            f"{self.failed} lists failed: {self.codes}, {self.messages}": self.failed > 0,
            f"{self.refused} lists were refused": self.refused > 0 and not row.refusals,
            "no list was answered as the table says": not self.seen,
            f"{self.lost} acknowledged sessions or reactions are lost": self.lost > 0,
            f"{self.doubled} sessions or reactions are there twice": self.doubled > 0,
            "the metric did not move": self.counted is not None and self.counted <= 0,
            "a client was told of the store's inside": self.leaked,
        }
        return [fault for fault, holds in found.items() if holds]


def measure(world: World, row: Row, *, seconds: float, rate: float) -> Figures:
    """Measure one row; the load lasts for `seconds` at least, and until all is whole again."""
    load = FaultLoad(
        world.clients_of_both if row.both else world.clients,
        use_case=world.use_case.id,
        reason=REASON,
        subjects=world.subjects,
        rate=rate,
        strangers=row.strangers,
    )
    counted_before = row.counter.read(world) if row.counter else None
    begin = time.monotonic()
    with load:
        time.sleep(BEFORE * seconds)
        fault_begin = time.monotonic()
        with row.fault(world, load):
            time.sleep(DURING * seconds)
            until(lambda: any(map(row.seen, _since(load, fault_begin))), f"{row.fails}, as the table says")
            counted = _counted(world, row, more_than=counted_before)
        fault_end = time.monotonic()
        until(lambda: any(map(_whole, _since(load, fault_end))), f"a whole list after {row.fails}")
        time.sleep(max(0.0, begin + seconds - time.monotonic()))
        end = time.monotonic()
    kept = load.kept()
    during = [each for each in _since(load, fault_begin) if each.began < fault_end]
    p50, p99 = _percentiles(each.milliseconds for each in during if each.code != REFUSED)
    codes = Counter(each.code for each in load.answers if each.code != "OK")
    return Figures(
        fails=row.fails,
        seconds=end - begin,
        sent=len(load.answers),
        failed=sum(codes.values()) - codes[REFUSED],
        refused=codes[REFUSED],
        degraded=sum(bool(each.degraded) for each in load.answers),
        seen=sum(map(row.seen, during)),
        codes=dict(codes + load.feedback.failed),
        p50=p50,
        p99=p99,
        refused_p99=_percentiles(each.milliseconds for each in during if each.code == REFUSED)[1],
        whole_after=min(each.ended for each in filter(_whole, _since(load, fault_end))) - fault_end,
        sessions=kept.sessions,
        reactions=kept.reactions,
        lost=kept.lost + load.feedback.sent - len(load.feedback.acknowledged),
        doubled=kept.doubled,
        resent=load.feedback.failed.total(),
        counted=None if counted is None or counted_before is None else counted - counted_before,
        leaked=any(SECRET in said for said in _said(load)),
        messages=tuple(sorted({each.message for each in load.answers if each.code not in ("OK", REFUSED)})),
    )


def _counted(world: World, row: Row, *, more_than: float | None) -> float | None:
    """Return the row's metric once it has moved."""
    if row.counter is None or more_than is None:
        return None
    give_up = time.monotonic() + METRIC_SECONDS
    while (counted := row.counter.read(world)) <= more_than and time.monotonic() < give_up:
        time.sleep(0.1)
    return counted


def _since(load: FaultLoad, moment: float) -> list[Answer]:
    return [answer for answer in list(load.answers) if answer.began >= moment]


def _whole(answer: Answer) -> bool:
    return answer.code == "OK" and not answer.degraded


def _said(load: FaultLoad) -> Iterable[str]:
    yield from (answer.message for answer in load.answers)
    yield from load.feedback.messages


def _percentiles(milliseconds: Iterable[float]) -> tuple[float, float]:
    values = list(milliseconds)
    return (float(np.percentile(values, 50)), float(np.percentile(values, 99))) if values else (0.0, 0.0)


def fault_figures(rows: Sequence[Row], *, seconds: float, rate: float) -> Iterator[Figures]:
    """Start a stack, load a market, measure the rows one after the other."""
    use_case = load_use_cases()[USE_CASE]
    market = Market.generated(load_use_cases(), seed=7, now=datetime.now(UTC)).only((USE_CASE,))
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch, fault_environment():
        Path(scratch).chmod(0o755)
        stack = Stack(Path(scratch) / "stack", ports=Ports.free(), poll_seconds=0.5)
        with stack, stack.clients() as clients:
            load_market(clients, market, np.random.default_rng(7), console)
            direction = market.direction(USE_CASE)
            with fault_world(
                stack, use_case, subjects=direction.subject_ids, items=direction.item_ids
            ) as world:
                for row in rows:
                    yield measure(world, row, seconds=seconds, rate=rate)


def fault_table(found: Sequence[Figures]) -> Table:
    """Return the figures as a table for people."""
    columns = ("what fails", "seconds", "lists", "failed", "refused", "degraded", "p50 ms", "p99 ms")
    table = Table(*columns, "whole after", "feedback", "resent", "lost", "doubled")
    for each in found:
        numbers = (each.sent, each.failed, each.refused, each.degraded)
        kept = (each.reactions + each.sessions, each.resent, each.lost, each.doubled)
        table.add_row(
            each.fails,
            f"{each.seconds:.0f}",
            *map(str, numbers),
            f"{each.p50:.0f}",
            f"{each.p99:.0f}",
            f"{each.whole_after:.1f} s",
            *map(str, kept),
        )
    return table


def targets_of(found: Sequence[Figures]) -> list[Target]:
    """Nothing may be lost or doubled, no list may fail; whatever the row."""
    sums = {
        "lists_failed": sum(each.failed for each in found),
        "feedback_lost": sum(each.lost for each in found),
        "feedback_doubled": sum(each.doubled for each in found),
    }
    return [Target(name, value, 0.0, Better.LOWER, value, value) for name, value in sums.items()]


def main(
    out: Out = None,
    seconds: Annotated[float, typer.Option(help="Of load for each row, at least.")] = 60.0,
    rate: Annotated[float, typer.Option(help="Lists a second.")] = 20.0,
    only: Annotated[list[str] | None, typer.Option(help="Rows, by what fails.")] = None,
) -> None:
    """Measure, print, write; exits with 1 when something is not as the failure table promises."""
    told = about()
    rows = [row for row in ROWS if not only or row.fails in only]
    found: list[Figures] = []
    try:
        for figures in fault_figures(rows, seconds=seconds, rate=rate):
            found.append(figures)
            console.print(asdict(figures))
    finally:  # what was measured is kept, whatever ends it
        write_report(out, told, {"rows": [asdict(each) for each in found]}, targets_of(found))
    console.print(fault_table(found))
    console.print(targets_table("faults", targets_of(found)))
    wrong = [
        f"{row.fails}: {fault}" for row, each in zip(rows, found, strict=True) for fault in each.faults(row)
    ]
    console.print(*wrong, sep="\n")
    raise typer.Exit(int(bool(wrong)))


if __name__ == "__main__":
    typer.run(main)
