"""What agentwrap costs, measured: ``python -m benchmarks``, or one alone, e.g. ``python -m benchmarks.wrapper``."""
