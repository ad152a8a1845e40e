"""The spool does what a list does, over any run of operations, restarts and torn tails."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ranking_svc.spool import Spool

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.binary(max_size=30)),
        st.tuples(st.just("take"), st.integers(1, 4)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(operations=OPERATIONS, segment_bytes=st.integers(1, 200))
def test_it_is_a_queue(operations: list[tuple[str, object]], segment_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spool = Spool(folder, max_records=8, max_bytes=100, segment_bytes=segment_bytes)
        model: list[bytes] = []
        for operation, argument in operations:
            if operation == "append":
                assert isinstance(argument, bytes)
                room = len(model) < 8 and sum(map(len, model)) + len(argument) <= 100
                assert spool.append(argument) == room
                model += [argument] if room else []
            elif operation == "take":
                assert isinstance(argument, int)
                taken = spool.peek(argument)
                assert taken == model[:argument]
                spool.remove(len(taken))
                del model[:argument]
            else:
                spool.close()
                spool = Spool(folder, max_records=8, max_bytes=100, segment_bytes=segment_bytes)
                again = spool.peek(100)
                # Removed records of a segment that still holds others come again, before the others.
                assert again[len(again) - len(model) :] == model
                spool.remove(len(again) - len(model))
            assert len(spool) == len(model)
        spool.close()


@settings(max_examples=60, deadline=None)
@given(payloads=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=10), data=st.data())
def test_a_torn_file_gives_a_prefix(payloads: list[bytes], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Spool(folder, max_records=100, max_bytes=1 << 20) as spool:
            for payload in payloads:
                spool.append(payload)
        (path,) = folder.glob("*.spool")
        left = data.draw(st.integers(0, path.stat().st_size))
        os.truncate(path, left)
        with Spool(folder, max_records=100, max_bytes=1 << 20) as spool:
            found = spool.peek(100)
        whole = 0
        while whole < len(payloads) and sum(8 + len(each) for each in payloads[: whole + 1]) <= left:
            whole += 1
        assert found == payloads[:whole]
