from __future__ import annotations

import threading

from threadpoolctl import threadpool_info, threadpool_limits

from monitor.statistics.threads import kernels, one_thread


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_one_thread_holds_inside_and_is_lifted_afterwards() -> None:
    with threadpool_limits(limits=2):
        with one_thread():
            assert blas_threads() == {1}
            with one_thread():
                assert blas_threads() == {1}
            assert blas_threads() == {1}
        assert blas_threads() == {2}


def test_a_limit_that_ends_does_not_lift_anothers() -> None:
    seen: list[set[int]] = []

    def work() -> None:
        for _ in range(50):
            with one_thread():
                seen.append(blas_threads())

    with threadpool_limits(limits=2):
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [{1}] * 150


def test_kernels_name_the_libraries_and_the_blas() -> None:
    named = kernels()
    assert [one.split()[0] for one in named[:2]] == ["numpy", "scipy"]
    assert len(named) > 2
