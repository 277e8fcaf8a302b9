"""Wrong answers made from a right one: each differs from it in one place.

Written by hand: the operators of mutation testers (cosmic-ray, mutmut) work on files, and change
neither order of arguments nor slices, and drop no statement or call, which is most of what goes
wrong with tensors.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator

COMPARISONS = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq, ast.GtE),
    ast.NotEq: (ast.Eq, ast.Lt),
}
ARITHMETIC = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add, ast.Div),
    ast.Div: (ast.Mult, ast.FloorDiv),
    ast.FloorDiv: (ast.Div,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
}
MODULES = {"torch", "F", "nn"}


def _swapped(items: list) -> Iterator[list]:
    for i in range(len(items) - 1):
        yield [*items[:i], items[i + 1], items[i], *items[i + 2 :]]


def _without_one(items: list) -> Iterator[list]:
    for i in range(len(items)):
        yield items[:i] + items[i + 1 :]


def _instead(node: ast.AST) -> Iterator[ast.AST]:
    """Give what could stand in place of a node."""
    match node:
        case ast.Compare(left, [operator], right):
            for other in COMPARISONS.get(type(operator), ()):
                yield ast.Compare(left, [other()], right)
        case ast.BinOp(left, operator, right):
            for other in ARITHMETIC.get(type(operator), ()):
                yield ast.BinOp(left, other(), right)
            yield from (left, right)
        case ast.UnaryOp(ast.Invert() | ast.Not() | ast.USub(), operand):
            yield operand
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
            yield from values
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            yield from (ast.Constant(value + 1), ast.Constant(value - 1))
        case ast.Call(function, positional, named):
            yield from (ast.Call(function, other, named) for other in _swapped(positional))
            yield from (ast.Call(function, positional, other) for other in _without_one(named))
            match function:
                case ast.Attribute(ast.Name(module)) if module in MODULES:
                    pass
                case ast.Attribute(owner):
                    yield owner
        case ast.Slice(lower, upper, step):
            for lacking in ({"lower": lower}, {"upper": upper}, {"step": step}):
                if any(lacking.values()):
                    parts = {"lower": lower, "upper": upper, "step": step} | dict.fromkeys(lacking)
                    yield ast.Slice(**parts)
        case ast.Tuple(items, ast.Load()):
            yield from (ast.Tuple(other, ast.Load()) for other in _swapped(items))
        case ast.If(test, body, orelse):
            yield ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.IfExp(test, body, orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.Attribute(owner, "T"):
            yield owner


def _trees(tree: ast.AST) -> Iterator[None]:
    """Change a tree in one place after the other; each time it is changed back."""
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if isinstance(value, ast.AST):
                others = list(_instead(value))
            elif isinstance(value, list):
                others = [
                    [*value[:i], other, *value[i + 1 :]]
                    for i, one in enumerate(value)
                    if isinstance(one, ast.AST)
                    for other in _instead(one)
                ]
                if field in ("body", "orelse"):
                    others += [one or [ast.Pass()] for one in _without_one(value)]
            else:
                continue
            for other in others:
                setattr(parent, field, other)
                yield
            setattr(parent, field, value)


def mutants(function: Callable) -> dict[str, Callable]:
    """Make every wrong answer that is one change away from a right one.

    Args:
        function: the right answer.
    Returns:
        the changed functions, by what changed: the new lines, or "without" the ones dropped.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    (definition,) = tree.body
    definition.decorator_list = []
    right = ast.unparse(tree)
    found = {}
    for _ in _trees(definition):
        changed = ast.unparse(ast.fix_missing_locations(tree))
        if changed == right:
            continue
        names = dict(function.__globals__)
        try:
            exec(compile(changed, f"<mutant of {function.__name__}>", "exec"), names)
        except SyntaxError:
            continue
        before, after = right.splitlines(), changed.splitlines()
        new = [line.strip() for line in after if line not in before]
        old = [line.strip() for line in before if line not in after]
        found.setdefault("\n".join(new) or "without " + "\n".join(old), names[function.__name__])
    return found
