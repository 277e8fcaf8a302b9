"""Wrong answers made from a right one: each differs from it in one place, or goes wrong in one way.

`python -m tests.exercises.mutations` prints how many the check names, explains, or only rejects.

Written by hand: the operators of mutation testers (cosmic-ray, mutmut) work on files, and change
neither order of arguments nor slices, and drop no statement or call, which is most of what goes
wrong with tensors.
"""

import ast
import inspect
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

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


def _spoilt(value: object) -> object:
    """Change a result so that it is wrong."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case Tensor():
            return ~value if value.dtype == torch.bool else value + 1
        case list():
            return [*value, value[0]]
    return tuple(map(_spoilt, value))


def _in_tensors(change: Callable, value: object) -> object:
    if isinstance(value, (tuple, list)):
        return type(value)(_in_tensors(change, one) for one in value)
    return change(value) if isinstance(value, Tensor) and value.is_floating_point() else value


def shapes(value: object) -> object:
    """Reduce an argument to its shapes: all that an answer knows that remembers by shape."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, (tuple, list)):
        return tuple(map(shapes, value))
    return None if isinstance(value, nn.Module) else type(value).__name__


def steps(value: object) -> int:
    """Find the largest size of an argument: of a dimension, of a list, or a length."""
    if isinstance(value, Tensor):
        lengths = value.tolist() if value.ndim == 1 and not value.is_floating_point() else []
        return max([*value.shape, *lengths], default=0)
    if isinstance(value, (tuple, list)):
        return max([len(value), *map(steps, value)])
    return value if isinstance(value, int) else 0


def wrong_in_one_way(function: Callable) -> dict[str, Callable]:
    """Make answers that are right but for one fault that no change of one place brings about.

    Args:
        function: the right answer.
    Returns:
        the faulty answers, by name.
    """
    by_shape, first = {}, []

    def remembers_by_shape(*arguments):
        return by_shape.setdefault(shapes(arguments), function(*arguments))

    def remembers_the_first(*arguments):
        first.append(function(*arguments))
        return first[0]

    def ends_at_step_8(*arguments):
        result = function(*arguments)
        return _spoilt(result) if max(map(steps, arguments)) > 8 else result

    def in_float64(*arguments):
        return _in_tensors(Tensor.double, function(*arguments))

    def without_gradient(*arguments):
        return _in_tensors(Tensor.detach, function(*arguments))

    def without_nan(*arguments):
        return _in_tensors(Tensor.nan_to_num, function(*arguments))

    def weights_set_to_0(*arguments):
        result = function(*arguments)
        for one in arguments:
            if isinstance(one, nn.Module):
                with torch.no_grad():
                    for parameter in one.parameters():
                        parameter.zero_()
        return result

    found = (remembers_by_shape, remembers_the_first, ends_at_step_8, in_float64)
    found += (without_gradient, without_nan, weights_set_to_0)
    return {one.__name__: one for one in found}


def table(verdicts: dict[str, list]) -> str:
    """Write how many wrong answers are named, explained, or rejected without a word.

    Args:
        verdicts: by exercise.
    Returns:
        a line an exercise, and a last one of all.
    """
    columns = ("named", "explained", "bare")
    lines = [f"{'':5} {'rejected':>9}" + "".join(f"{name:>11}" for name in columns)]
    total = Counter()
    for id, found in [*verdicts.items(), ("all", [])]:
        kinds = {"misconception": "named", "explained": "explained"}
        counts = Counter(kinds.get(one.kind, "bare") for one in found if not one)
        total += counts
        counts = total if id == "all" else counts
        row = "".join(f"{counts[name]:11}" for name in columns)
        lines.append(f"{id:5} {sum(counts.values()):9}{row}")
    rejected = max(sum(total.values()), 1)
    shares = "".join(f"{total[name] / rejected:11.0%}" for name in columns)
    return "\n".join([*lines, f"{'':15}{shares}"])


if __name__ == "__main__":
    from course_utils.exercises import EXERCISES
    from course_utils.exercises.engine import judge

    torch.set_num_threads(1)
    asked = tuple(sys.argv[1:]) or ("",)
    print(
        table(
            {
                id: [judge(one, answer) for answer in mutants(one.solution).values()]
                for id, one in EXERCISES.items()
                if id.startswith(asked)
            }
        )
    )
