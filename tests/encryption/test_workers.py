import gc
import threading

import pytest
from hypothesis import given, strategies as st

from fedjax_private.encryption.workers import Workers


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 16])
def test_results_come_in_order(threads, count):
    workers = Workers.start(threads)
    assert workers.map(lambda index: index * index, count) == [
        index * index for index in range(count)
    ]


@given(threads=st.integers(1, 9), count=st.integers(1, 2000))
def test_spans_cover_every_ciphertext_and_keep_all_threads_busy(threads, count):
    spans = Workers(count=threads).spans(count)
    covered = [i for span in spans for i in range(span.start, span.stop)]
    assert covered == list(range(count))
    sizes = [span.stop - span.start for span in spans]
    assert max(sizes) <= 64
    assert len(set(sizes[:-1])) <= 1
    # What the busiest thread does is at most a piece more than its share.
    busiest = max(sum(sizes[first::threads]) for first in range(threads))
    assert busiest < count / threads + max(sizes)
    if count >= 64 * threads:
        assert busiest <= 1.1 * count / threads + threads


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("each", [1, 4, 7, 64, 100])
def test_spans_of_items_of_several_ciphertexts(threads, each):
    spans = Workers(None, threads).spans(32, each)
    items = [index for span in spans for index in range(span.start, span.stop)]
    assert items == list(range(32))
    largest = max(span.stop - span.start for span in spans)
    assert largest == 1 or largest * each <= 64
    assert len(spans) >= threads


def test_nothing_has_no_spans():
    assert Workers().spans(0) == []


def test_errors_come_out():
    def fail(index):
        raise RuntimeError(f"at {index}")

    with pytest.raises(RuntimeError, match="at 0"):
        Workers.start(2).map(fail, 4)


def test_no_worker_is_refused():
    with pytest.raises(ValueError, match="at least one worker"):
        Workers.start(0)


def test_default_uses_the_cores():
    assert Workers.start().count >= 1


def test_threads_end_with_their_last_reference():
    workers = Workers.start(2)
    # By thread, not by number: those of other tests may be ending meanwhile.
    threads = set(workers.map(lambda index: threading.current_thread(), 4))
    assert threads and all(thread.is_alive() for thread in threads)
    del workers
    gc.collect()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
