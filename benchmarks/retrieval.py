"""How retrieval holds up with a million items.

``python -m benchmarks.retrieval --out FILE.json [--items 1000000] [--folder FOLDER]``

In process: the release's index of 128-wide vectors, searched for 20 items without 50 that were seen (half
of them among the nearest), over faiss's own HNSW search for 20 with the same graph and the same beam; and
how many of the exact 20 nearest are found. The vectors are made up: unit vectors in 2000 groups of uneven
size.

As a service: candidate_svc as a process of its own beside a store of made-up films, with a release
(two_tower and als over all items, networks of the real size, untrained) in an MLflow registry. The first
start lists the whole catalogue; `start_s` is of the next one, which has what the first one kept on disk.
GetCandidates for 20 over an empty unary call (health) of the same server; one call at a time, in turn.
Subjects are 30 cold (0 to 4 events), 30 warm (5 to 19) and 30 hot ones (20 to 100), each asked once
a round in an order by chance, and get what a release's routing gives: `methods` says which answered.
`rpc_vs_noop_p50` is over all of them. Beside it are the tiers alone, each method asked by name, and the same
mix with `ensemble` first for warm and hot subjects. Memory is the process's share (PSS) after that.

A full run takes about ten minutes; `--folder` keeps graph, release and what the service keeps for more runs,
which then take two minutes.
"""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import faiss
import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.folders import Folder, data_folder
from benchmarks.report import Better, Out, Target, about, targets_table, write_report
from benchmarks.retrieval_calls import call_rounds
from benchmarks.retrieval_world import USE_CASE, WIDTH, clustered, ids, use_case, write_release
from candidate_svc.kept import FILE
from matchloop.release import MlflowRegistry
from matchloop.retrieval.graph import SPARE, beam
from matchloop.retrieval.vector_index import VectorIndex
from playground.processes import ServiceProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

K = 20
SEEN = 50
QUERIES = 200
ROUNDS = 7
START_SECONDS = 900.0
FULL = 1_000_000

console = Console()


def index_of(items: int, folder: Path) -> tuple[VectorIndex, dict[str, float]]:
    """Return the index over all items: read, or built and written."""
    path = folder / f"graph-{items}.faiss"
    if not path.is_file():
        index = VectorIndex(WIDTH, exact_below=1)
        vectors = clustered(items, np.random.default_rng(5))
        begin = time.perf_counter()
        index.upsert(ids(items), vectors)
        built = time.perf_counter() - begin
        index.save(path)
        return index, {"graph_build_s": round(built, 1)}
    return VectorIndex.load(path, ids(items), WIDTH), {}


def search_rounds(index: VectorIndex, progress: Progress) -> tuple[list[float], dict[str, float]]:
    """Return each round's median of `VectorIndex.search` over faiss's own search, and both medians."""
    rng = np.random.default_rng(6)
    queries = clustered(QUERIES, rng)
    everyone = index.item_ids
    seen = []
    for query in queries:
        near = [hit.item for hit in index.search(query, 2 * SEEN)]
        picked = rng.choice(len(near), SEEN // 2, replace=False).tolist()
        far = rng.integers(0, len(everyone), SEEN - SEEN // 2).tolist()
        seen.append([near[at] for at in picked] + [everyone[at] for at in far])
    assert index._graph is not None
    bare = index._graph._index
    parameters = faiss.SearchParametersHNSW(efSearch=beam(K + SPARE))  # type: ignore[attr-defined]
    ours: list[float] = []
    theirs: list[float] = []
    ratios = []
    task = progress.add_task("searches", total=ROUNDS)
    for _ in range(ROUNDS):
        own, other = [], []
        for query, excluded in zip(queries, seen, strict=True):
            begin = time.perf_counter()
            bare.search(query[None, :], K, params=parameters)
            middle = time.perf_counter()
            hits = index.search(query, K, exclude=excluded)
            own.append(time.perf_counter() - middle)
            other.append(middle - begin)
            assert len(hits) == K
        ours.append(float(np.median(own)))
        theirs.append(float(np.median(other)))
        ratios.append(ours[-1] / theirs[-1])
        progress.advance(task)
    return ratios, {
        "search_ms": round(1e3 * float(np.median(ours)), 3),
        "faiss_ms": round(1e3 * float(np.median(theirs)), 3),
    }


def registered(index: VectorIndex, recall: float, items: int, folder: Path) -> str:
    """Return the address of a registry that holds a release over the index."""
    uri = f"sqlite:///{folder / f'mlflow-{items}.db'}"
    registry = MlflowRegistry(uri)
    if registry.resolve(USE_CASE, "champion") is None:
        unfinished = folder / "release"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        write_release(unfinished, index, ids(items), recall)
        found = registry.register(unfinished, USE_CASE, run_id=None, metrics={"recall": recall})
        registry.set_alias(USE_CASE, "champion", found.version)
        shutil.rmtree(unfinished)
    return uri


@contextmanager
def store(items: int, folder: Path) -> Iterator[str]:
    """Run the store; give its address."""
    import subprocess

    port = free_port()
    command = [sys.executable, "-m", "benchmarks.retrieval_store", str(port), str(items)]
    with (folder / "store.log").open("ab") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - our own module
    try:
        yield f"127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait(30.0)


@contextmanager
def candidates(
    feedback: str, registry: str, folder: Path, figures: dict[str, Any], name: str
) -> Iterator[Any]:
    """Run candidate_svc; note the seconds from its start until it serves."""
    port = free_port()
    environment = {
        "CANDIDATE_PORT": str(port),
        "CANDIDATE_FEEDBACK_ADDRESS": feedback,
        "CANDIDATE_REGISTRY_URI": registry,
        "CANDIDATE_CACHE_FOLDER": str(folder / "cache"),
        "CANDIDATE_RELEASE_WAIT_SECONDS": "600",
        "CANDIDATE_LIST_SECONDS": "60",
    }
    service = ServiceProcess("candidate_svc", port, environment, folder / "candidate.log")
    begin = time.perf_counter()
    service.start()
    try:
        service.wait_serving(START_SECONDS)
        figures[name] = round(time.perf_counter() - begin, 2)
        yield service
    finally:
        service.stop(60.0)


def memory_gb(pid: int) -> float:
    """Return the process's proportional share of memory, in 10^9 bytes."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    line = next(line for line in rollup.splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) * 1024 / 1e9


def main(
    out: Out = None,
    items: Annotated[int, typer.Option(min=1000)] = FULL,
    folder: Folder = None,
) -> None:
    """Measure, print, write."""
    told = about()
    figures: dict[str, Any] = {"items": items}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ExitStack() as stack:
        at = stack.enter_context(data_folder(folder))
        progress = stack.enter_context(Progress(*columns, console=console))
        steps = progress.add_task("graph, recall, release, first start, start", total=5)
        index, built = index_of(items, at)
        figures |= built
        progress.advance(steps)
        searches, spent = search_rounds(index, progress)
        recall = index.recall(clustered(QUERIES, np.random.default_rng(9)), K)
        figures |= spent
        progress.advance(steps)
        served = at / use_case().schema_fingerprint[:12]
        served.mkdir(exist_ok=True)
        registry = registered(index, recall, items, served)
        del index
        progress.advance(steps)
        feedback = stack.enter_context(store(items, at))
        # What an earlier run kept may be of another making: the start that counts follows one of ours.
        kept = served / "cache" / FILE
        was_kept = kept.is_file()
        name = "earlier_start_s" if was_kept else "first_start_s"
        with candidates(feedback, registry, served, figures, name) as service:
            figures[f"{name[:-2]}_memory_gb"] = memory_gb(service.pid)
            while not kept.is_file():
                time.sleep(0.2)
        progress.advance(steps)
        with candidates(feedback, registry, served, figures, "start_s") as service:
            ratios = call_rounds(service.address, K, ROUNDS, figures, progress)
            memory = memory_gb(service.pid)
        progress.advance(steps)

    def target(name: str, values: list[float], bound: float, better: Better) -> Target:
        return Target(name, float(np.median(values)), bound, better, min(values), max(values))

    targets = [
        target("search_vs_faiss", searches, 1.3, Better.LOWER),
        target("recall_at_20", [recall], 0.95, Better.HIGHER),
        target("rpc_vs_noop_p50", ratios, 8, Better.LOWER),
        target("memory_gb", [memory], 3, Better.LOWER),
        target("start_s", [figures["start_s"]], 60, Better.LOWER),
    ]
    write_report(out, told, figures, targets)
    console.print(targets_table(f"retrieval, {items:,} items", targets))
    console.print_json(data=figures)


if __name__ == "__main__":
    typer.run(main)
