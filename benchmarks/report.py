"""How the benchmarks print: a table for people, then one JSON object a line for programs."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]


def table(rows: Sequence[Row]) -> str:
    """Lay rows out under the names of their columns. Numbers stand to the right."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_text(row.get(name)) for name in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    numeric = [all(isinstance(row.get(name), int | float | None) for row in rows) for name in columns]

    def line(parts: Sequence[str]) -> str:
        padded = (part.rjust(w) if n else part.ljust(w) for part, w, n in zip(parts, widths, numeric, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join([line(columns), line(["-" * width for width in widths]), *map(line, cells)])


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1000 else f"{value}"


def machine() -> Row:
    """Say what was measured on."""
    return {
        "benchmark": "machine",
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def run(title: str, add: Callable[[argparse.ArgumentParser], None], measure: Callable[..., list[Row]]) -> None:
    """Be the ``main`` of one benchmark: read its options, measure, print."""
    parser = argparse.ArgumentParser(description=title)
    add(parser)
    rows = measure(**vars(parser.parse_args()))
    print_all([(title, rows)])


def print_all(results: Sequence[tuple[str, list[Row]]]) -> None:
    """Print the tables, then the JSON lines."""
    for title, rows in results:
        print(f"\n{title}")
        for name in dict.fromkeys(row["benchmark"] for row in rows):
            these = [row for row in rows if row["benchmark"] == name]
            print(f"\n{name}\n{table([{k: v for k, v in row.items() if k != 'benchmark'} for row in these])}")
    print()
    for row in [machine(), *(row for _, rows in results for row in rows)]:
        print(json.dumps(row))
