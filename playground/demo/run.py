"""The demo, top to bottom: boot, load, train, then rounds of lists, reactions and retraining."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from matchloop.candidate.v1.candidate_service_pb2 import GetCandidatesRequest
from matchloop.errors import Unavailable
from matchloop.feedback.v1.session_pb2 import Method
from matchloop.ranking.v1.ranking_service_pb2 import RecommendRequest
from matchloop.usecase import load_use_cases
from playground.clients import Clients
from playground.dataset import core, read_dataset
from playground.demo.examples import examples_of
from playground.demo.report import Retraining, write_report
from playground.demo.rounds import Contestant, ask, react, score
from playground.demo.scoreboard import Policy, Row, as_table, verdicts, write_json
from playground.demo.training import Trainer
from playground.load import event_message, load_entities, progress_bar, record_in_batches
from playground.market import Market
from playground.stack import Ports, Stack
from training_jobs.gates import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console


FIRST_ALIAS = "first"
"""Registry alias of the release trained before round 1."""

_PICK_UP_SECONDS = 60.0
_TIMEOUT = 20.0

BUILT_IN = ("developer_startup", "startup_developer")


def run_demo(
    *,
    data: Path | None,
    out: Path,
    folder: Path,
    rounds: int,
    subjects: int,
    entities: int,
    seed: int,
    console: Console,
) -> bool:
    """Run the demo and write its report.

    Parameters
    ----------
    data
        Folder of a data set; None: the built-in market.
    out
        Where `report.html` and `demo.json` go.
    folder
        Scratch folder of the stack.
    rounds, subjects
        Rounds to play, and subjects who ask in each.
    entities
        Of an imported data set, so many of each kind take part: those with most events.
    seed
        Fixes the market and every reaction.

    Returns
    -------
    bool
        True when in every use case the last round beats the first and both comparisons.
    """
    began = time.monotonic()
    rng = np.random.default_rng(seed)
    market, about = _market(data, entities, seed)
    console.print(f"[bold]market[/bold]  {about}")
    demo = Demo(market, rng, console)
    with ExitStack() as running:
        with console.status("starting PostgreSQL and the services"):
            stack = running.enter_context(Stack(folder, ports=Ports.free(), poll_seconds=0.25))
            clients = running.enter_context(stack.clients())
        demo.load(clients)
        trainer = Trainer(stack, clients)
        demo.retrain(trainer, clients, before_round=1)
        trainer.keep_as(FIRST_ALIAS, market.use_cases)
        first = running.enter_context(Clients(stack.start_pair(FIRST_ALIAS)))
        contestants = (
            Contestant(Policy.LOOP, clients, preview=False),
            Contestant(Policy.FIRST, first, preview=True),
            Contestant(Policy.POPULAR, clients, preview=True, methods=(Method.METHOD_POPULAR,)),
        )
        panels = {use_case: market.panel(use_case, subjects, rng) for use_case in market.use_cases}
        demo.await_releases(first)
        for round_ in range(1, rounds + 1):
            for use_case, panel in panels.items():
                demo.play(contestants, use_case, panel, round_)
            if round_ < rounds:
                demo.retrain(trainer, clients, before_round=round_ + 1)
        examples = [
            example
            for use_case in panels
            for example in examples_of(market, clients, use_case, panels[use_case])
        ]
    judged = verdicts(demo.rows)
    out.mkdir(parents=True, exist_ok=True)
    write_json(demo.rows, out / "demo.json")
    write_report(
        out / "report.html",
        market=about,
        rows=demo.rows,
        judged=judged,
        examples=examples,
        retrainings=demo.retrainings,
    )
    for verdict in judged:
        console.print()
        console.print(as_table(demo.rows, verdict.use_case))
        console.print(verdict.sentence)
    for example in examples:
        console.print(example.as_table())
    console.print(f"\n{time.monotonic() - began:.0f} s in all")
    console.print(f"report  {out / 'report.html'}\nfigures {out / 'demo.json'}", soft_wrap=True)
    return all(verdict.holds for verdict in judged)


class Demo:
    """What the demo gathers while it runs: rows, retrainings, what can no longer be shown."""

    def __init__(self, market: Market, rng: np.random.Generator, console: Console) -> None:
        self.market = market
        self.rows: list[Row] = []
        self.retrainings: list[Retraining] = []
        self._rng = rng
        self._console = console
        self._champions: dict[str, str] = {}
        self._hidden: dict[str, dict[str, set[str]]] = {
            use_case: defaultdict(set) for use_case in market.use_cases
        }

    def load(self, clients: Clients) -> None:
        """Load the catalogue and what happened before the first list."""
        history = self.market.history(self._rng)
        with progress_bar(self._console) as progress:
            for kind, entities in self.market.entities.items():
                task = progress.add_task(f"{kind} entities", total=len(entities))
                load_entities(clients, entities, lambda n, task=task: progress.advance(task, n))  # type: ignore[misc]
            task = progress.add_task("history", total=len(history))
            record_in_batches(
                clients,
                (event_message(event) for event in history),
                lambda n, task=task: progress.advance(task, n),  # type: ignore[misc]
            )
        for event in history:
            self._remember(event.use_case, event.subject_id, event.item_id, event.event_type)

    def retrain(self, trainer: Trainer, clients: Clients, *, before_round: int) -> None:
        """Train, gate and promote every use case on one snapshot; wait until what passed is served."""
        snapshot = trainer.snapshot()
        for use_case in self.market.use_cases:
            began = time.monotonic()
            with self._console.status(f"retraining {use_case}"):
                outcome = trainer.retrain(use_case, snapshot)
            entry = Retraining(
                use_case=use_case,
                round=before_round,
                release=outcome.release,
                promoted=outcome.promoted,
                seconds=time.monotonic() - began,
                gates=tuple(outcome.gates),
            )
            self.retrainings.append(entry)
            if entry.promoted:
                self._champions[use_case] = entry.release
            refusing = ", ".join(gate.name for gate in outcome.gates if gate.verdict is Verdict.REFUSED)
            verdict = "promoted" if entry.promoted else f"[yellow]refused by {refusing}[/yellow]"
            parts = f"; left out: {', '.join(outcome.skipped)}" if outcome.skipped else ""
            self._console.print(
                f"  {entry.release} trained in {entry.seconds:.1f} s, {verdict}{parts}", highlight=False
            )
        self.await_releases(clients)

    def await_releases(self, clients: Clients) -> None:
        """Wait until both services behind `clients` serve the champions.

        Raises
        ------
        Unavailable
            They did not pick one up in time.
        """
        for use_case, release in self._champions.items():
            subject = self.market.panel(use_case, 1, np.random.default_rng(0))[0]
            give_up = time.monotonic() + _PICK_UP_SECONDS
            served: set[str] = set()
            while served != {release}:
                if time.monotonic() > give_up:
                    raise Unavailable(f"{release} was not picked up; served: {', '.join(served)}")
                time.sleep(0.1)
                recommended = clients.ranking.Recommend(
                    RecommendRequest(use_case=use_case, subject_id=subject, preview=True), timeout=_TIMEOUT
                )
                found = clients.candidate.GetCandidates(
                    GetCandidatesRequest(use_case=use_case, subject_id=subject), timeout=_TIMEOUT
                )
                served = {recommended.release, found.release}

    def play(
        self, contestants: Sequence[Contestant], use_case: str, panel: Sequence[str], round_: int
    ) -> None:
        """Ask every policy, score all on the same random numbers, record what the loop's lists caused."""
        excluded = {subject: frozenset(items) for subject, items in self._hidden[use_case].items()}
        with progress_bar(self._console, transient=True) as progress:
            answers = {c.policy: ask(c, use_case, panel, progress) for c in contestants}
        for policy, answer in answers.items():
            row = score(self.market, use_case, answer, round_, excluded=excluded, rng=self._rng)
            self.rows.append(row)
            self._console.print(
                f"round {round_}  {use_case:<18} {policy:<14} click rate {row.click_rate:.3f}"
                f"  NDCG@10 {row.ndcg:.3f}",
                highlight=False,
            )
        for reaction in react(self.market, use_case, answers[Policy.LOOP], round_, contestants[0].clients):
            self._remember(use_case, reaction.subject_id, reaction.item_id, reaction.event_type)

    def _remember(self, use_case: str, subject_id: str, item_id: str, event_type: str) -> None:
        declared = self.market.use_cases[use_case]
        if event_type in declared.strong_events or event_type == declared.dislike_event:
            self._hidden[use_case][subject_id].add(item_id)


def _market(data: Path | None, entities: int, seed: int) -> tuple[Market, str]:
    use_cases, now = load_use_cases(), datetime.now(UTC)
    if data is None:
        market = Market.generated(use_cases, seed=seed, now=now).only(BUILT_IN)
        name = "built-in market"
    else:
        dataset = core(read_dataset(data, use_cases), entities)
        market = Market.fitted(dataset, [use_case.id for use_case in dataset.use_cases], seed=seed, now=now)
        name = f"{dataset.name}, its busiest part"
    counts = ", ".join(f"{len(entities):,} {kind}s" for kind, entities in market.entities.items())
    return market, f"{name}: {counts}; use cases {', '.join(market.use_cases)}; seed {seed}"
