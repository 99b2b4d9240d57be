import inspect

import agentwrap
from agentwrap import errors


def test_what_is_public_is_written_down():
    assert sorted(agentwrap.__all__) == [
        "AgentwrapError",
        "AgentwrapWarning",
        "EndpointError",
        "ExportError",
        "InterpretVectorWrapper",
        "InterpretWrapper",
        "MissingExtraError",
        "PolicyTypeError",
        "PortTakenError",
        "RecordingError",
        "UnknownLayerError",
        "__version__",
    ]
    assert all(hasattr(agentwrap, name) for name in agentwrap.__all__)


def test_all_errors_have_one_base_and_stand_in_the_tree():
    for name, error in inspect.getmembers(errors, inspect.isclass):
        assert issubclass(error, errors.AgentwrapError | errors.AgentwrapWarning)
        assert name in errors.__doc__


def test_options_of_the_wrapper():
    parameters = list(inspect.signature(agentwrap.InterpretWrapper.__init__).parameters.values())
    assert [parameter.name for parameter in parameters[:3]] == ["self", "env", "policy"]
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters[3:])
    for parameter in parameters[1:]:
        assert f"    {parameter.name}: " in agentwrap.InterpretWrapper.__doc__, f"{parameter.name} is not documented"


def test_all_ways_to_look_have_the_same_options():
    from agentwrap.options import Options

    options = list(inspect.signature(agentwrap.InterpretWrapper.__init__).parameters)[3:]
    assert list(Options.__annotations__) == options


def test_the_examples_in_the_documentation_run():
    import doctest

    from agentwrap import vector, wrapper

    for module in (vector, wrapper):
        assert doctest.testmod(module).attempted > 0
        assert doctest.testmod(module).failed == 0
