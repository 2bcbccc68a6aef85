"""The predictors contain only what Cog can parse: it doesn't run them, and silently drops the rest."""

import ast
import io
import tokenize
from pathlib import Path
from typing import Any

import pytest

from local import ROOT
from tests.contract.schema_of import input_schemas, output_schema

PREDICTORS = sorted(ROOT.glob("predict_*.py"))
OPTIONS = {"default", "description", "ge", "le", "choices"}
LAYOUT = {tokenize.NEWLINE, tokenize.NL, tokenize.ENDMARKER}

predictors = pytest.mark.parametrize("path", PREDICTORS, ids=lambda path: path.stem)


def predictor(path: Path) -> ast.ClassDef:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Predictor")


def methods(path: Path) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in predictor(path).body if isinstance(node, ast.FunctionDef)}


def inputs(path: Path) -> dict[str, tuple[str, ast.Call]]:
    """Return the annotation and the Input(...) of each input."""
    arguments = methods(path)["run"].args
    found = {}
    for argument, default in zip(arguments.args[1:], arguments.defaults, strict=True):
        assert argument.annotation, argument.arg
        assert isinstance(default, ast.Call), argument.arg
        found[argument.arg] = ast.unparse(argument.annotation), default
    return found


def option_tokens(path: Path, option: ast.keyword) -> list[tokenize.TokenInfo]:
    """Return the tokens of an option's value as in the source."""
    segment = ast.get_source_segment(path.read_text(encoding="utf-8"), option)
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(segment).readline) if token.type not in LAYOUT]
    return tokens[2:]  # after NAME and =


@predictors
def test_a_predictor_is_of_the_kind_that_causes_no_warning(path: Path) -> None:
    """It has run() of a BaseRunner: predict() and BasePredictor are deprecated, and both methods together fail."""
    assert [ast.unparse(base) for base in predictor(path).bases] == ["BaseRunner"]
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
def test_every_argument_is_an_input_with_known_keywords(path: Path) -> None:
    arguments = methods(path)["run"].args
    assert not (arguments.posonlyargs or arguments.kwonlyargs or arguments.vararg or arguments.kwarg)
    for name, (_, call) in inputs(path).items():
        assert ast.unparse(call.func) == "Input", name
        assert not call.args, name
        assert {option.arg for option in call.keywords} <= OPTIONS, name
        assert "default" in {option.arg for option in call.keywords}, name


@predictors
def test_every_annotation_is_plain_or_optional_if_the_default_is_none(path: Path) -> None:
    properties = input_schemas(path)["Input"]["properties"]
    for name, (annotation, _) in inputs(path).items():
        plain = annotation.removeprefix("Optional[").removesuffix("]")
        assert plain in {"str", "int", "float", "bool", "Path"}, name
        assert (annotation != plain) == (properties[name]["default"] is None), name


@predictors
def test_every_option_is_one_plain_literal(path: Path) -> None:
    """Cog misreads expressions, brackets, and joined, prefixed or escaped strings, or makes the input required."""
    for name, (_, call) in inputs(path).items():
        for option in call.keywords:
            tokens = option_tokens(path, option)
            where = f"{name}: {option.arg}={''.join(token.string for token in tokens)}"
            if option.arg == "choices":
                check_choices(option.value, tokens, where)
                continue
            assert len(tokens) == 1, where
            assert isinstance(option.value, ast.Constant), where
            if isinstance(option.value.value, str):
                check_string(tokens[0], where)
            if option.arg in ("ge", "le"):
                assert tokens[0].type == tokenize.NUMBER, where
                assert set(tokens[0].string) <= set("0123456789."), where


def check_choices(value: ast.expr, tokens: list[tokenize.TokenInfo], where: str) -> None:
    assert isinstance(value, ast.List), where
    assert all(isinstance(choice, ast.Constant) and isinstance(choice.value, str) for choice in value.elts), where
    assert not any(token.type == tokenize.COMMENT for token in tokens), where
    strings = [token for token in tokens if token.type == tokenize.STRING]
    assert len(strings) == len(value.elts), where  # so none is joined from two
    for string in strings:
        check_string(string, where)


def check_string(token: tokenize.TokenInfo, where: str) -> None:
    assert token.string[0] == '"', f"{where} has a prefix"
    assert not token.string.startswith('"""'), where
    assert "\\" not in token.string, f"{where}: Cog doesn't process escapes"
    assert token.start[0] == token.end[0], f"{where} is not on one line"


@predictors
def test_the_output_is_a_path_or_a_direct_model_of_paths(path: Path) -> None:
    assert methods(path)["run"].returns is not None
    schema: dict[str, Any] = output_schema(path)  # asserts that a model's base is BaseModel and its fields are Paths
    assert schema["type"] in ("string", "object")


@predictors
def test_the_health_check_is_called_as_the_server_calls_it(path: Path) -> None:
    """The server calls it without arguments from a thread, and takes anything but False as healthy, even None."""
    healthcheck = methods(path)["healthcheck"]
    assert [argument.arg for argument in healthcheck.args.args] == ["self"]
    assert ast.unparse(healthcheck.returns or ast.Constant(None)) == "bool"
    assert all(node.value for node in ast.walk(healthcheck) if isinstance(node, ast.Return))
    assert isinstance(healthcheck.body[-1], ast.Return)
