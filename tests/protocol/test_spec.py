"""The specification names every field, with the default that the types have, and every bound and operator."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from agentwrap_protocol import (
    DEFAULT_LIMITS,
    KINDS,
    VERSION,
    Announcement,
    Message,
    announcement,
    codec,
    graph_check,
    mcap_encoder,
    messages,
    operators,
    recording_index,
    session,
    spaces,
)
from agentwrap_protocol import graph as g

SPEC = (Path(__file__).parents[2] / "protocol" / "SPEC.md").read_text(encoding="utf-8")

SPACES = (
    spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Dict, spaces.Tuple, spaces.Other,
)  # fmt: skip
ARGUMENTS = (g.Ref, g.Dtype, g.Enum, g.Number, g.List)

#: Heading of a section → the type whose fields its table lists.
TYPES = {
    **{f"`{kind}`": cls for kind, cls in KINDS.items()},
    **{f"`{cls.__struct_config__.tag}`": cls for cls in SPACES},
    "Fields of every message": Message,
    "Policy information": messages.PolicyInfo,
    "Distribution information": messages.DistributionInfo,
    "Probe information": messages.ProbeInfo,
    "Method information": messages.MethodInfo,
    "Option information": messages.OptionInfo,
    "Target information": messages.TargetInfo,
    "Graph": g.Graph,
    "Graph input": g.Input,
    "Graph tensor": g.Tensor,
    "Graph node": g.Node,
    "Graph output": g.Output,
    "9 Announcement files": Announcement,
}


def sections():
    """Heading → its text, up to the next heading of any level."""
    parts = re.split(r"^#{2,4} (.+)$", SPEC, flags=re.MULTILINE)
    headings = parts[1::2]
    assert len(headings) == len(set(headings)), "two sections have the same heading"
    return dict(zip(headings, parts[2::2], strict=True))


def rows(text):
    """Rows of the table of fields: name → (type, default)."""
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:3] == "| `"]
    return {row[0].strip("`| "): row[1:3] for row in cells if len(row) >= 4 and not row[0].startswith("`<")}


def own_fields(cls):
    fields = {field.name: field for field in msgspec.structs.fields(cls)}
    if issubclass(cls, Message) and cls is not Message:
        fields = {name: field for name, field in fields.items() if name not in Message.__struct_fields__}
    return fields


@pytest.mark.parametrize("heading", TYPES)
def test_every_field_is_specified_with_its_default_and_no_other(heading):
    specified, fields = rows(sections()[heading]), own_fields(TYPES[heading])
    assert specified.keys() == fields.keys()
    for name, field in fields.items():
        default = specified[name][1]
        if field.required:
            assert default == "required", name
        else:
            value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
            assert json.loads(default.strip("`")) == json.loads(msgspec.json.encode(value)), name


@pytest.mark.parametrize("heading", TYPES)
def test_the_words_that_a_field_may_have_are_specified(heading):
    specified = rows(sections()[heading])
    for field in msgspec.inspect.type_info(TYPES[heading]).fields:
        words = {word for words in literals(field.type) for word in words}
        if words and field.name in specified:
            assert set(re.findall(r'`"(\w+)"`', specified[field.name][0])) == words, field.name


def literals(type_):
    """Values of the literals in a type, inside unions and tuples too."""
    if isinstance(type_, msgspec.inspect.LiteralType):
        yield type_.values
    for inner in (getattr(type_, "type", None), getattr(type_, "item_type", None), *getattr(type_, "types", ())):
        if inner is not None:
            yield from literals(inner)


def test_every_kind_says_whether_it_is_reliable_and_who_sends_it():
    requests = {"ping", "resend", "probe", "watch", "configure", "explain", "evaluate"}
    others = {*requests, "reply", "index"}  # the last is never sent
    for kind in KINDS.keys() - others:
        text = sections()[f"`{kind}`"]
        assert ("Not reliable." in text) is not KINDS[kind].reliable, kind
        assert re.search(r"(Not r|R)eliable\. (Agent|Explainer)", text), kind


def test_every_argument_is_specified():
    text = sections()["Graph node"]
    specified = {row[0]: row[1] for row in re.findall(r"^\| `(\w+)` \| (`\w+`: .+?) \|", text, flags=re.MULTILINE)}
    for cls in ARGUMENTS:
        assert set(re.findall(r"`(\w+)`:", specified.pop(cls.__struct_config__.tag))) == set(own_fields(cls))
    assert not specified


def test_every_element_type_is_specified():
    text = sections()["3 Header and arrays"].replace("\\|", "|")
    assert {dtype for dtype in re.findall(r"`([|<]\w\d)`", text)} == codec.DTYPES
    element_types = re.search(r"\*\*Element types\*\* are (.+?), for inputs", SPEC, flags=re.DOTALL)
    assert set(re.findall(r"`(\w+)`", element_types[1])) == set(graph_check.ITEM_SIZES)


def test_every_bound_is_specified():
    text = sections()["11 Size bounds"]
    bounds = re.findall(r"^\| (.+?) \| ([\d,]+)(?: bytes)? \|$", text, flags=re.MULTILINE)
    specified = {what: int(number.replace(",", "")) for what, number in bounds}
    assert specified == {
        "kind of message": codec.MAX_KIND,
        "header": DEFAULT_LIMITS.header,
        "arrays of a message": DEFAULT_LIMITS.arrays,
        "axes of an array": codec.MAX_AXES,
        "bytes of one array; in an empty one each axis of length 0 counts as 1": DEFAULT_LIMITS.array,
        "bytes of all arrays of a message": DEFAULT_LIMITS.total,
        "nodes of a graph": graph_check.MAX_NODES,
        "parameters of a graph, constants of a graph, each": graph_check.MAX_TENSORS,
        "depth of lists in arguments": graph_check.MAX_DEPTH,
        "announcement file": announcement.MAX_BYTES,
        "bytes of all arrays of a `probe`": messages.MAX_PROBE_BYTES,
    }


def test_the_bounds_of_the_types_are_those_of_the_checks():
    fields = {field.name: field.type for field in msgspec.inspect.type_info(g.Graph).fields}
    assert fields["nodes"].max_length == graph_check.MAX_NODES
    assert fields["parameters"].max_length == fields["constants"].max_length == graph_check.MAX_TENSORS


def test_every_operator_is_specified():
    listed = re.search(r"```operators\n(.+?)```", SPEC, flags=re.DOTALL)[1].split()
    assert {f"aten.{name}" for name in listed} == operators.TENSOR_OPERATORS, "list them in SPEC.md, section 6"
    table = re.findall(r"^\| ((?:`[\w.]+`(?:, )?)+) \|", sections()["Operators"], flags=re.MULTILINE)
    assert {name for row in table for name in re.findall(r"`([\w.]+)`", row)} == operators.SIZE_OPERATORS


def test_version_and_times_are_those_of_the_code():
    assert f"# The agentwrap protocol, version {VERSION[0]}.{VERSION[1]}" in SPEC
    text = sections()["Following a stream"]
    assert f"received for {session.SILENCE:.0f} seconds counts as silent" in text
    assert f"every {session.PATIENCE:.0f} seconds while" in text


def test_what_recordings_are_made_of_is_specified():
    index = sections()["`index`"]
    for kind, fields in recording_index.FIELDS.items():
        for field, dtype in fields.items():
            row = re.search(rf"^\| `{kind}/<field>` \| \(k,\) \| (.+) \|$", index, flags=re.MULTILINE)[1]
            group = next(group for group in row.replace("\\|", "|").split(";") if f"`{field}`" in group)
            assert f"`{dtype}`" in group, (kind, field)
    assert f"at most {recording_index.MOST_ELEMENTS} elements" in index
    words = msgspec.inspect.type_info(messages.EpisodeEnd).fields
    assert {*recording_index.REASONS} == {*next(field.type.values for field in words if field.name == "reason")}
    for name in (mcap_encoder.METADATA, mcap_encoder.SEED, mcap_encoder.SUMMARY, mcap_encoder.ENCODING):
        assert f"`{name}`" in SPEC
    assert f"from 2 to {messages.MAX_ARRAYS + 2:,}" in sections()["Packed messages"]


def test_links_and_section_numbers_lead_somewhere():
    headings = re.findall(r"^## ((\d+) .+)$", SPEC, flags=re.MULTILINE)
    assert [int(number) for _, number in headings] == list(range(1, 14))
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading, _ in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", SPEC)) == anchors
    for path in re.findall(r"\]\((?!#|http)([^)]+)\)", SPEC):
        assert (Path(__file__).parents[2] / "protocol" / path).exists(), path
