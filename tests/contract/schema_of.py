"""Read the schema of a Cog predictor as `cog build` does: by parsing it without running it."""

import ast
from pathlib import Path
from typing import Any

FILE = {"type": "string", "format": "uri"}
JSON_TYPES = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "Path": FILE,
}


def input_schemas(path: Path) -> dict[str, Any]:
    """Return the schemas that Cog generates from the inputs: "Input", and one for each list of choices."""
    schemas: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    schemas["Input"] = {"properties": properties, "title": "Input", "type": "object"}
    arguments = _run_method(_parse(path)).args
    for order, (argument, call) in enumerate(zip(arguments.args[1:], arguments.defaults, strict=True)):
        assert isinstance(call, ast.Call), f"{argument.arg} is not an Input(...)"
        assert not call.args, f"{argument.arg}: Input takes keywords only"
        options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        about: dict[str, Any] = {"x-order": order}
        type_name, optional = _annotation(argument.annotation)
        if optional:
            about["nullable"] = True
        about["default"] = options["default"]
        for option, key in (("description", "description"), ("ge", "minimum"), ("le", "maximum")):
            if option in options:
                about[key] = options[option]
        if choices := options.get("choices"):
            about["allOf"] = [{"$ref": f"#/components/schemas/{argument.arg}"}]
            schemas[argument.arg] = {
                "description": "An enumeration.",
                "enum": choices,
                "title": argument.arg,
                **JSON_TYPES[type_name],
            }
        else:
            about |= {"title": argument.arg.replace("_", " ").title(), **JSON_TYPES[type_name]}
        properties[argument.arg] = about
    return schemas


def output_schema(path: Path) -> dict[str, Any]:
    """Return the schema that Cog generates from the return type of run()."""
    tree = _parse(path)
    returned = ast.unparse(_run_method(tree).returns or ast.Constant(None))
    if returned == "Path":
        return {**FILE, "title": "Output"}
    output = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == returned)
    assert [ast.unparse(base) for base in output.bases] == ["BaseModel"]
    fields = [node for node in output.body if isinstance(node, ast.AnnAssign)]
    assert all(ast.unparse(field.annotation) == "Path" for field in fields)
    names = [ast.unparse(field.target) for field in fields]
    return {
        "properties": {name: {**FILE, "title": name.title()} for name in names},
        "required": names,
        "title": "Output",
        "type": "object",
    }


def as_documented(schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs in the form of the documented API: choices in place, no titles, order or nulls."""
    documented = {}
    for name, about in schemas["Input"]["properties"].items():
        kept = {key: value for key, value in about.items() if key not in ("title", "x-order", "nullable", "allOf")}
        if kept["default"] is None:
            del kept["default"]
        if name in schemas:
            kept |= {"enum": schemas[name]["enum"], "type": schemas[name]["type"]}
            kept.setdefault("description", schemas[name]["description"])
        documented[name] = kept
    return {"properties": documented, "type": "object"}


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _run_method(tree: ast.Module) -> ast.FunctionDef:
    predictor = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Predictor")
    return next(node for node in predictor.body if isinstance(node, ast.FunctionDef) and node.name == "run")


def _annotation(node: ast.expr | None) -> tuple[str, bool]:
    """Return the name of a type, and whether it is Optional."""
    if isinstance(node, ast.Subscript):
        assert ast.unparse(node.value) == "Optional"
        return ast.unparse(node.slice), True
    return ast.unparse(node or ast.Constant(None)), False
