"""The documentation is true: snippets run, links lead somewhere, and what is public is written down."""

from __future__ import annotations

import argparse
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources import ROOT

import agentwrap
from agentwrap import demo as agent_demo
from agentwrap_viewer import cli
from agentwrap_viewer.saliency import methods

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "protocol").rglob("*.md")])
REFERENCE = (ROOT / "docs/reference.md").read_text()


def snippets() -> dict[str, str]:
    """The Python snippets of the documentation, but for those that an HTML comment before them excuses."""
    pattern = re.compile(r"^(<!-- not run: .+ -->\n)?```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return {
        f"{path.relative_to(ROOT)}:{number}": code
        for path in PAGES
        for number, (excuse, code) in enumerate(pattern.findall(path.read_text()), 1)
        if not excuse
    }


@pytest.mark.parametrize("name", snippets())
def test_snippet_runs(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", snippets()[name]]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_readme_has_a_snippet_with_the_line() -> None:
    assert "env = InterpretWrapper(env, policy)" in snippets()["README.md:1"]


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_into_the_repository_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{page.name} links to {link}, which is not there"
        assert path.is_relative_to(ROOT), f"{page.name} links to {link}, outside the repository"
        if anchor:
            assert anchor in anchors(path.read_text()), f"{page.name} links to {link}, which has no such heading"


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The parsers of the command line: the one of all commands, and each command's."""
    top = cli.parser()
    yield "agentwrap", top
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, parser in action.choices.items():
                yield f"agentwrap {name}", parser


def test_commands_and_options_are_documented() -> None:
    commands = dict(parsers())
    assert set(commands) > {"agentwrap view", "agentwrap demo"}
    for command, parser in commands.items():
        assert command in REFERENCE
        assert undocumented(parser, section_of(command)) == []


def test_options_of_the_agent_alone_are_documented() -> None:
    assert undocumented(agent_demo.parser(), section_of("python -m agentwrap.demo")) == []


def section_of(command: str) -> str:
    """From where the reference introduces a command to where it introduces the next."""
    chapter = REFERENCE[REFERENCE.index("## Command line") : REFERENCE.index("## Saliency methods")]
    if command == "agentwrap":
        return chapter
    start = chapter.index(f"`{command}")
    following = [found.start() for found in re.finditer(r"^`(agentwrap|python)", chapter, re.MULTILINE)]
    return chapter[start : min((place for place in following if place > start), default=len(chapter))]


def undocumented(parser: argparse.ArgumentParser, text: str) -> list[str]:
    options = {option for action in parser._actions for option in action.option_strings} - {"-h", "--help"}
    return sorted(option for option in options if not re.search(rf"{option}\b", text))


def test_every_option_of_the_wrapper_is_documented_with_its_default() -> None:
    parameters = inspect.signature(agentwrap.InterpretWrapper).parameters.values()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", REFERENCE, re.MULTILINE))
    options = [parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    assert len(options) > 5
    for option in options:
        assert option.name in rows, f"InterpretWrapper's {option.name} is not in docs/reference.md"
        if option.default is not None:
            assert rows[option.name].strip("`") == str(option.default), option.name
        assert f"{option.name}:" in (agentwrap.InterpretWrapper.__doc__ or "")


@pytest.mark.parametrize("name", agentwrap.__all__)
def test_what_is_public_has_a_docstring_and_stands_in_the_reference(name: str) -> None:
    assert name == "__version__" or (getattr(agentwrap, name).__doc__ or "").strip()
    assert name == "__version__" or f"{name}" in REFERENCE


def test_every_saliency_method_is_documented_with_its_options() -> None:
    for name, method in methods().items():
        row = re.search(rf"^\| `{name}` \|.*$", REFERENCE, re.MULTILINE)
        assert row, f"{name} is not in docs/reference.md"
        assert not [option for option in method.options() if f"`{option}`" not in row.group()]


def test_what_make_can_do_is_documented() -> None:
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    told = "".join((ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md"))
    assert set(targets) >= {"demo", "test", "check", "bench"}
    assert [target for target in targets if target not in ("help", "clean") and f"make {target}" not in told] == []


def test_ci_runs_what_the_readme_says() -> None:
    script = (ROOT / ".ci/run").read_text().splitlines()
    assert [line for line in script if line and not line.startswith(("#", "set "))] == ["make test"]
    assert "make test" in (ROOT / "README.md").read_text()
