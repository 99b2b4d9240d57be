"""Work done by several processes: on this machine's cores, or on a cluster of Ray or Dask; all of it through joblib."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from agentwrap_viewer.launch import LaunchError

from .arguments import need

T = TypeVar("T")

#: What each backend needs beside joblib, and what installs it.
BACKENDS = {
    "loky": ((), ""),
    "ray": (("ray",), 'pip install "agentwrap-rl[viewer,ray]"'),
    "dask": (("distributed",), 'pip install "agentwrap-rl[viewer,dask]"'),
}

#: Tasks for each worker in one round, where a backend gives results back only when a round is over.
ROUND = 4

#: Tasks that are worth a further process where nobody said how many: it takes seconds to import PyTorch in each.
WORTH = 32


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add how work is shared."""
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="cores to compute on, with a process for each; -1 for all (default: all; fewer processes for few steps)",
    )
    parser.add_argument(
        "--backend", choices=BACKENDS, default="loky", help="who works: processes here (loky, default), ray or dask"
    )
    parser.add_argument("--address", help="the cluster's address, for ray and dask (default: one is begun here)")


class Workers:
    """Those who work.

    Args:
        jobs: Processes, each of which computes on one core; -1 for as many as there are cores, of a cluster for all
            that it has. None is the same as -1, but where tasks are few, fewer processes have several threads each.
        backend: One of ``BACKENDS``.
        address: The cluster's, or None for one on this machine that lasts as long as the work.

    Raises:
        LaunchError: They cannot be had.
    """

    def __init__(self, jobs: int | None = None, *, backend: str = "loky", address: str | None = None) -> None:
        packages, install = BACKENDS[backend]
        if packages:
            need(packages, install, who=f"--backend {backend}")
        if address is not None and backend == "loky":
            raise LaunchError("--address is a cluster's: choose one with --backend ray or --backend dask")
        if jobs is not None and (jobs == 0 or jobs < -1):
            raise LaunchError(f"--jobs {jobs} is no number of processes: name 1 or more, or -1 for one on each core")
        self._jobs, self._backend, self._address = jobs, backend, address

    def map(self, function: Callable[..., T], tasks: Sequence[tuple[Any, ...]]) -> Iterator[T]:
        """Yield what a function returns for each task, in whatever order they are done.

        It is called with a task's values and with ``threads``, how many to compute with; None leaves it as it is.
        """
        if not tasks:
            return
        if self._backend == "loky" and self._count(len(tasks)) == 1:
            threads = None if self._jobs is None else 1
            yield from (function(*task, threads=threads) for task in tasks)
            return
        from joblib import Parallel, cpu_count, delayed

        with ExitStack() as stack:
            begin = {"loky": _loky, "ray": _ray, "dask": _dask}[self._backend]
            count = stack.enter_context(begin(self._count(len(tasks)), self._address))
            threads = max(1, cpu_count() // count) if self._jobs is None and self._address is None else 1
            work = [delayed(function)(*task, threads=threads) for task in tasks]
            if self._backend == "ray":  # joblib's backends of this kind return lists only
                parallel = stack.enter_context(Parallel(n_jobs=count))
                for begun in range(0, len(work), ROUND * count):
                    yield from parallel(work[begun : begun + ROUND * count])
            else:
                yield from Parallel(n_jobs=count, return_as="generator_unordered")(work)

    def _count(self, tasks: int) -> int:
        """How many processes there are to be for so many tasks; -1 for all that a cluster has."""
        if self._address is not None:
            return self._jobs or -1
        from joblib import cpu_count

        if self._jobs is None:
            return int(max(1, min(cpu_count(), tasks // WORTH)))
        return int(cpu_count()) if self._jobs < 0 else self._jobs


@contextmanager
def _loky(jobs: int, address: str | None) -> Iterator[int]:
    yield jobs


@contextmanager
def _ray(jobs: int, address: str | None) -> Iterator[int]:
    import ray
    from joblib import parallel_config
    from ray.util.joblib import register_ray

    register_ray()
    try:
        here = {} if address is not None else {"num_cpus": jobs, "include_dashboard": False}
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **here)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise LaunchError(f"no Ray cluster answers at {address}: {error}") from error
    try:
        with parallel_config(backend="ray"):
            yield int(ray.cluster_resources().get("CPU", 1)) if jobs < 0 else jobs
    finally:
        ray.shutdown()


@contextmanager
def _dask(jobs: int, address: str | None) -> Iterator[int]:
    from distributed import Client
    from joblib import parallel_config

    workers = jobs
    try:
        if address is not None:
            client = Client(address, timeout="10s")
        else:
            # that a worker is killed at the end because it is slow to go concerns nobody
            client = Client(n_workers=jobs, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR)
    except (OSError, ValueError) as error:
        raise LaunchError(f"no Dask cluster answers at {address}: {error}") from error
    with client:
        if address is not None and jobs < 0:
            workers = max(1, sum(client.nthreads().values()))
        with parallel_config(backend="dask"):
            yield workers
