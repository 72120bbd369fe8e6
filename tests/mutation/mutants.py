"""Small wrong changes to a source file, one at a time: what a test has to notice.

A mutant is named by its file, its function and the text of what changes, so that a list of them survives moved lines.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

COMPARE: dict[type, tuple[type, ...]] = {
    **{ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt)},
    **{ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt)},
    **{ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,)},
    **{ast.In: (ast.NotIn,), ast.NotIn: (ast.In,)},
}
ARITHMETIC: dict[type, type] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div},
    **{ast.Pow: ast.Mult, ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd},
}
SWAPPED = {"min": "max", "any": "all", "minimum": "maximum", "lower": "upper", "stamp_ns": "received_ns",
           "joint_lower": "joint_upper", "motion_lower": "motion_upper"}  # fmt: skip
SWAPPED |= {there: here for here, there in SWAPPED.items()}
TRANSPARENT = {"abs", "round", "clip", "reversed", "float", "copy", "minimum", "maximum", "min", "max"}
"""Calls that are replaced by their first argument."""
NOT_CODE = {"annotation", "returns", "type_comment", "ctx", "op", "ops"}


@dataclass(frozen=True, eq=False)
class Mutant:
    """One change, in the `lines` of one statement; `code()` compiles the changed module.

    function: the outermost one around it, e.g. "Limits._check"; "Limits." in the class, "" in the module.
    """

    file: Path
    function: str
    text: str
    lines: range
    tree: ast.Module
    slot: tuple[Any, Any]
    replacement: ast.AST

    @property
    def name(self) -> str:
        """What the list of equivalents calls it."""
        return f"{self.file.parent.name}/{self.file.name} {self.function or 'module'}: {self.text}"

    @property
    def at_import(self) -> bool:
        """Whether it changes what happens when the module is imported, not what a function does."""
        return not self.function or self.function.endswith(".")

    def code(self) -> CodeType:
        """The whole module with this change in it."""
        holder, key = self.slot
        before = holder[key] if isinstance(holder, list) else getattr(holder, key)
        _put(self.slot, ast.fix_missing_locations(ast.copy_location(self.replacement, before)))
        try:
            return compile(self.tree, str(self.file), "exec")
        finally:
            _put(self.slot, before)


def mutants_of(file: Path) -> list[Mutant]:
    """All mutants of one file, in the order of its lines; equal names are numbered."""
    tree, seen, result = ast.parse(file.read_text()), Counter[str](), []
    for slot, node, function, lines in _places(tree, None, "", range(0)):
        for replacement, text in _replacements(node):
            seen[f"{function}: {text}"] += 1
            count = seen[f"{function}: {text}"]
            numbered = text if count == 1 else f"{text} ({count})"
            result.append(Mutant(file, function, numbered, lines, tree, slot, replacement))
    return result


def _put(slot: tuple[Any, Any], node: ast.AST) -> None:
    holder, key = slot
    if isinstance(holder, list):
        holder[key] = node
    else:
        setattr(holder, key, node)


def _places(node: ast.AST, slot: Any, function: str, lines: range) -> Iterator[tuple[Any, ast.AST, str, range]]:
    """Every node that stands for something that runs, with where it hangs, its function and its statement's lines."""
    if isinstance(node, ast.stmt):
        head = node.body[0].lineno - 1 if isinstance(getattr(node, "body", None), list) else node.end_lineno
        lines = range(node.lineno, max(head or 0, node.lineno) + 1)
    if slot is not None:
        yield slot, node, function, lines
    for field, value in ast.iter_fields(node):
        if field in NOT_CODE:
            continue
        for i, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or _is_docstring(child):
                continue
            place = (value, i) if isinstance(value, list) else (node, field)
            yield from _places(child, place, _function(node, field, function), lines)


def _function(node: ast.AST, field: str, function: str) -> str:
    """Defaults and decorators of a function run where it is defined; classes run at import."""
    if field != "body" or not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return function
    inside = isinstance(node, ast.FunctionDef) or function.endswith(".")
    if function and not function.endswith("."):
        return function  # a function in a function changes with it
    return function + node.name + ("" if isinstance(node, ast.FunctionDef) else ".") if inside else node.name + "."


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _replacements(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    for kind, mutate in _MUTATIONS.items():
        if isinstance(node, kind):
            for item in mutate(node):
                replacement, text = item if isinstance(item, tuple) else (item, ast.unparse(item))
                yield replacement, f"{_short(node)} -> {text}"


def _short(node: ast.AST) -> str:
    head = ast.unparse(node).split("\n")[0]
    return head if len(head) <= 100 else head[:97] + "..."


def _compare(node: ast.Compare) -> Iterator[ast.AST]:
    for i, op in enumerate(node.ops):
        for other in COMPARE[type(op)]:
            yield ast.Compare(node.left, [*node.ops[:i], other(), *node.ops[i + 1 :]], node.comparators)


def _arithmetic(node: ast.BinOp) -> Iterator[ast.AST]:
    if type(node.op) in ARITHMETIC:
        yield ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)


def _bool(node: ast.BoolOp) -> Iterator[ast.AST]:
    yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    for i in range(len(node.values)):
        rest = node.values[:i] + node.values[i + 1 :]
        yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)


def _constant(node: ast.Constant) -> Iterator[ast.AST]:
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield from (ast.Constant(value + 1), ast.Constant(value - 1))
    elif isinstance(value, float):
        yield from (ast.Constant(value * 2 or 1.0), ast.Constant(value / 2 or -1.0))
    elif isinstance(value, str):
        yield ast.Constant(value + "?")


def _call(node: ast.Call) -> Iterator[tuple[ast.AST, str] | ast.AST]:
    name = getattr(node.func, "id", getattr(node.func, "attr", ""))
    for i, keyword in enumerate(node.keywords):
        if isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, bool):
            continue  # the same as its opposite
        rest = node.keywords[:i] + node.keywords[i + 1 :]
        yield ast.Call(node.func, node.args, rest), f"without {ast.unparse(keyword)}"
    if name in TRANSPARENT and node.args:
        yield node.args[0]
    if name in ("min", "max", "minimum", "maximum", "clip") and len(node.args) > 1:
        yield node.args[1]


def _dict(node: ast.Dict) -> Iterator[tuple[ast.AST, str]]:
    for i in range(len(node.keys)):
        fewer = ast.Dict(node.keys[:i] + node.keys[i + 1 :], node.values[:i] + node.values[i + 1 :])
        key = node.keys[i]
        yield fewer, "without " + (ast.unparse(key) if key is not None else f"**{ast.unparse(node.values[i])}")


def _condition(node: ast.If | ast.IfExp) -> Iterator[tuple[ast.AST, str]]:
    for value in (True, False):
        parts = {**dict(ast.iter_fields(node)), "test": ast.Constant(value)}
        yield type(node)(**parts), f"always {value}"


def _statement(node: ast.stmt) -> Iterator[tuple[ast.AST, str]]:
    yield ast.Pass(), "removed"


def _assignment(node: ast.Assign) -> Iterator[tuple[ast.AST, str]]:
    """A local variable that is missing is noticed by Python itself; another value in its place is not."""
    if isinstance(node.targets[0], (ast.Attribute, ast.Subscript)):
        yield ast.Pass(), "removed"


def _return(node: ast.Return) -> Iterator[ast.AST]:
    if node.value is not None and not isinstance(node.value, ast.Constant):
        yield ast.Return(ast.Constant(None))


def _name(node: ast.Name) -> Iterator[ast.AST]:
    if node.id in SWAPPED and isinstance(node.ctx, ast.Load):
        yield ast.Name(SWAPPED[node.id], node.ctx)


def _attribute(node: ast.Attribute) -> Iterator[ast.AST]:
    if node.attr in SWAPPED and isinstance(node.ctx, ast.Load):
        yield ast.Attribute(node.value, SWAPPED[node.attr], node.ctx)


_MUTATIONS: dict[Any, Any] = {
    **{ast.Compare: _compare, ast.BinOp: _arithmetic, ast.BoolOp: _bool, ast.Constant: _constant, ast.Call: _call},
    **{ast.UnaryOp: lambda node: iter([node.operand]), ast.Dict: _dict, (ast.If, ast.IfExp): _condition},
    **{(ast.Expr, ast.Raise): _statement, ast.Assign: _assignment, ast.Return: _return},
    **{ast.Name: _name, ast.Attribute: _attribute},
}
