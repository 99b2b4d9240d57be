"""``python -m agentwrap_viewer.explainer``: follow an agent's stream, or a recording, and publish saliency maps."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
from collections.abc import Sequence

from .lifetime import Lifetime, be_nice, wait_asleep


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM, SIGINT, or the end of the standard input; returns the exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="agentwrap explainer: %(message)s")
    lifetime = Lifetime()
    be_nice()
    if arguments.threads > 1:
        wait_asleep()
    import torch  # reads the environment when it is loaded

    from agentwrap_viewer.recording import RecordingError, open_recording
    from agentwrap_viewer.saliency import SaliencyError

    from .service import Service
    from .settings import Settings

    torch.set_num_threads(arguments.threads)
    torch.backends.cudnn.allow_tf32 = False  # a GPU's convolutions would have ten bits, and maps are small differences
    try:
        settings = Settings().changed(
            None, method=arguments.method, target=arguments.target, budget_ms=arguments.budget_ms
        )
        device = _device(arguments.device)
        if arguments.check:
            return 0
        recording = open_recording(arguments.recording) if arguments.recording is not None else None
        for path in arguments.policies:
            if recording is None:
                raise SaliencyError("weights can be added to a recording alone")
            recording.add_weights(path)
        service = Service(arguments.source, device=device, settings=settings, recording=recording)
    except (SaliencyError, RecordingError) as error:
        logging.error("%s", error)
        return 2
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps({"publish": service.publish, "control": service.control}), flush=True)
    service.run(lambda: lifetime.over)
    return 0


def default_threads(cores: int) -> int:
    """Return how many threads to compute with on a machine with so many cores.

    One where they are few: agent, page and browser want theirs, and threads that wait for one another lose more than
    they win once another process takes a core away.
    """
    return 1 if cores <= 4 else min(4, cores - 3)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agentwrap explainer", description=__doc__)
    parser.add_argument("--source", metavar="ENDPOINT", help="the agent's stream, e.g. tcp://127.0.0.1:5590")
    parser.add_argument("--recording", metavar="FILE", help="explain the steps of a recording as they are asked for")
    parser.add_argument("--policies", metavar="FILE", nargs="*", default=(), help="weights: further versions, in order")
    parser.add_argument("--device", default="cpu", help="where to compute: cpu, cuda, mps, or auto (default: cpu)")
    parser.add_argument(
        "--threads",
        type=_positive,
        default=default_threads(os.cpu_count() or 1),
        help="threads to compute with on the CPU (default here: %(default)s)",
    )
    parser.add_argument("--method", help="saliency method to begin with (default: the one that suits the observation)")
    parser.add_argument("--target", help="what of the policy to explain (default: what the method explains of itself)")
    parser.add_argument("--budget-ms", type=float, metavar="MS", help="milliseconds to spend on one step")
    parser.add_argument("--check", action="store_true", help="only say whether device, method and budget are possible")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _device(name: str) -> str:
    """Check that a device is there.

    Raises:
        SaliencyError: It is not.
    """
    import torch

    from agentwrap_viewer.saliency import SaliencyError

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        unknown = "Expected one of" in str(error)  # and all kinds of devices that PyTorch has ever heard of
        reason = "there is no such kind of device" if unknown else str(error).splitlines()[0]
        raise SaliencyError(f"device {name!r} is not usable here: {reason}; there is {_devices()}, or auto") from None
    return name


def _devices() -> str:
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return ", ".join(name for name, is_there in there.items() if is_there)


if __name__ == "__main__":
    raise SystemExit(main())
