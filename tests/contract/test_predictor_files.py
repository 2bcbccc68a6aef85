"""The predictors contain only what Cog can parse: it doesn't run them, and silently drops the rest."""

import ast
from pathlib import Path

import pytest

from local import ROOT
from tests.contract.schema_of import input_schemas

PREDICTORS = sorted(ROOT.glob("predict_*.py"))
OPTIONS = {"default", "description", "ge", "le", "choices"}

predictors = pytest.mark.parametrize("path", PREDICTORS, ids=lambda path: path.stem)


def methods(path: Path) -> dict[str, ast.FunctionDef]:
    """Return the methods of the predictor, a BaseRunner: BasePredictor is deprecated."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    predictor = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Predictor")
    assert [ast.unparse(base) for base in predictor.bases] == ["BaseRunner"]
    return {node.name: node for node in predictor.body if isinstance(node, ast.FunctionDef)}


def inputs(path: Path) -> dict[str, tuple[str, ast.Call]]:
    arguments = methods(path)["run"].args
    assert not (arguments.posonlyargs or arguments.kwonlyargs or arguments.vararg or arguments.kwarg)
    found = {}
    for argument, default in zip(arguments.args[1:], arguments.defaults, strict=True):
        assert argument.annotation, argument.arg
        assert isinstance(default, ast.Call), argument.arg
        found[argument.arg] = ast.unparse(argument.annotation), default
    return found


@predictors
def test_a_predictor_has_the_methods_that_cause_no_warning(path: Path) -> None:
    """predict() is deprecated, and fails together with run()."""
    assert {"setup", "run", "healthcheck"} <= methods(path).keys()
    assert "predict" not in methods(path)
    assert not methods(path)["run"].decorator_list  # it would hide the defaults from the server


@predictors
def test_names_of_cog_are_imported_without_aliases(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    assert not any(alias.name.split(".")[0] == "cog" for n in nodes if isinstance(n, ast.Import) for alias in n.names)
    (imported,) = (n for n in nodes if isinstance(n, ast.ImportFrom) and n.module == "cog")
    assert not any(alias.asname for alias in imported.names)
    assert {alias.name for alias in imported.names} <= {"BaseModel", "BaseRunner", "Input", "Path"}


@predictors
def test_every_argument_is_an_input_with_known_keywords_and_a_plain_type(path: Path) -> None:
    """The type is optional if the default is None, and only then."""
    properties = input_schemas(path)["Input"]["properties"]
    for name, (annotation, call) in inputs(path).items():
        assert ast.unparse(call.func) == "Input", name
        assert {"default"} <= {option.arg for option in call.keywords} <= OPTIONS, name
        plain = annotation.removeprefix("Optional[").removesuffix("]")
        assert plain in {"str", "int", "float", "bool", "Path"}, name
        assert (annotation != plain) == (properties[name]["default"] is None), name


@predictors
def test_every_option_is_one_plain_literal(path: Path) -> None:
    """Cog misreads expressions, brackets, and joined, prefixed or escaped strings, or makes the input required."""
    source = path.read_text(encoding="utf-8")
    for _, call in inputs(path).values():
        for option in call.keywords:
            written = ast.get_source_segment(source, option) or ""
            choices = option.value.elts if isinstance(option.value, ast.List) else None
            assert (choices is not None) == (option.arg == "choices"), written
            for value in choices or [option.value]:
                assert isinstance(value, ast.Constant), written
                literal = f'"{value.value}"' if isinstance(value.value, str) else repr(value.value)
                assert ast.get_source_segment(source, value) == literal, written
                assert choices or written == f"{option.arg}={literal}"
            assert choices is None or "#" not in written


@predictors
def test_the_health_check_is_called_as_the_server_calls_it(path: Path) -> None:
    """The server calls it without arguments from a thread, and takes anything but False as healthy, even None."""
    healthcheck = methods(path)["healthcheck"]
    assert [argument.arg for argument in healthcheck.args.args] == ["self"]
    assert ast.unparse(healthcheck.returns or ast.Constant(None)) == "bool"
    assert isinstance(healthcheck.body[-1], ast.Return)
