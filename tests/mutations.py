"""Small wrong changes to a module's source: what a test must notice.

One change is one :class:`Mutant`. Made are: a comparison turned or moved by one, ``and`` for ``or``, a
condition negated, a number one more or less, ``True`` for ``False``, another arithmetic operator, ``min``
for ``max``, a row of a table left out, another word where words are compared or looked up, another value
returned, a statement left out.

Not made are changes that no program could tell apart by what it promises: in docstrings, annotations,
decorators, log lines, ``assert``, ``__repr__``, ``__str__``, and in the words of errors and f-strings.
"""

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, cast

#: Beyond so many characters a change is shown with less of what is around it.
_SHOWN: Final = 90

_COMPARISONS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
}
_OTHER_FUNCTION: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
#: Methods whose first argument is a word that is looked up.
_LOOK_UPS: Final = frozenset(
    {
        "get",
        "pop",
        "setdefault",
        "startswith",
        "endswith",
        "removeprefix",
        "removesuffix",
        "find",
        "split",
        "partition",
    }
)
_LOGGERS: Final = frozenset({"_log", "_logger", "logger", "logging"})
_UNTOUCHED_FIELDS: Final = frozenset(
    {"annotation", "returns", "decorator_list", "type_comment", "type_params", "ctx"}
)
_UNTOUCHED_FUNCTIONS: Final = frozenset({"__repr__", "__str__"})
_UNTOUCHED_CALLS: Final = frozenset({"TypeVar", "ParamSpec", "cast", "assert_never"})
_UNTOUCHED_NAMES: Final = frozenset({"__all__", "__slots__", "__match_args__"})

_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_COMPOUND: Final = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.If, ast.For, ast.AsyncFor, ast.While),
    *(ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match),
)


@dataclass(frozen=True, slots=True)
class _Edit:
    """One place in a tree, and what is put there."""

    parent: ast.AST
    field: str
    index: int | None
    new: Any

    def make(self) -> "_Edit":
        """Change the tree, and return how it is changed back."""
        value = getattr(self.parent, self.field)
        if self.index is None:
            setattr(self.parent, self.field, self.new)
            return _Edit(self.parent, self.field, None, value)
        old, value[self.index] = value[self.index], self.new
        return _Edit(self.parent, self.field, self.index, old)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change.

    Attributes:
        name: where it is and what it is, as ``function: before => after``. No other of its module has it, and
            it stays the same whatever is changed elsewhere.
        lines: the lines of the statement; a test that runs none of them cannot notice.
        function: name and first line of the outermost function whose body holds it; None if there is none.
        edit: how it is made in the tree that it was found in.
    """

    name: str
    lines: range
    function: tuple[str, int] | None
    edit: _Edit = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the tree a node stands, seen from the top."""

    node: ast.AST
    field: str
    index: int | None
    above: "_Place | None"

    def ancestors(self) -> Iterator[ast.AST]:
        place = self.above
        while place is not None:
            yield place.node
            place = place.above

    @property
    def parent(self) -> ast.AST:
        assert self.above is not None
        return self.above.node

    def put(self, new: ast.AST) -> _Edit:
        """Return the edit that puts something else here."""
        return _Edit(self.parent, self.field, self.index, _like(self.node, new))


def mutants_of(tree: ast.Module) -> list[Mutant]:
    """Return all changes of a module, in its order. Each can be made in that tree, one at a time."""
    found: list[Mutant] = []
    names: Counter[str] = Counter()
    for place in _places(_Place(tree, "", None, None)):
        for edit in _edits(place):
            name = f"{_where(place)}: {_shown(place, edit)}"
            names[name] += 1
            number = f" (no. {names[name]})" if names[name] > 1 else ""
            found.append(Mutant(name + number, _lines(place), _outermost_function(place), edit))
    return found


# --- Where changes are made. ---


def _places(place: _Place) -> Iterator[_Place]:
    yield place
    for name, value in ast.iter_fields(place.node):
        if name in _UNTOUCHED_FIELDS or (isinstance(place.node, ast.ClassDef) and name == "keywords"):
            continue
        items = cast("list[object]", value) if isinstance(value, list) else [value]
        for index, node in enumerate(items):
            if isinstance(node, ast.AST):
                below = _Place(node, name, index if items is value else None, place)
                if not _is_untouched(below):
                    yield from _places(below)


def _is_untouched(place: _Place) -> bool:
    if isinstance(place.parent, ast.Raise):
        return True  # What an error says; whether it is raised is another matter.
    match place.node:
        case ast.Import() | ast.ImportFrom() | ast.Assert() | ast.JoinedStr():
            return True
        case ast.FunctionDef(name=name, decorator_list=decorators):
            return name in _UNTOUCHED_FUNCTIONS or "overload" in map(_last_name, decorators)
        case ast.Call() as call:
            return _is_log(call) or _last_name(call.func) in _UNTOUCHED_CALLS
        case ast.stmt() as statement:
            return _is_mere_declaration(statement)
        case _:
            return False


def _is_mere_declaration(statement: ast.stmt) -> bool:
    """Whether it says something to readers and type checkers only."""
    match statement:
        case ast.Expr(value=ast.Constant()) | ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Expr(value=ast.Call() as call):
            return _is_log(call)
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name in _UNTOUCHED_NAMES or _is_type(value)
        case ast.AnnAssign(target=ast.Name(id=name)):
            return name in _UNTOUCHED_NAMES
        case _:
            return False


def _last_name(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=func):
            return _last_name(func)
        case _:
            return ""


def _is_log(call: ast.Call) -> bool:
    match call.func:
        case ast.Attribute(value=ast.Name(id=name)) | ast.Attribute(value=ast.Attribute(attr=name)):
            return name in _LOGGERS
        case _:
            return False


def _is_type(node: ast.expr) -> bool:
    """Whether this is an alias of types, such as ``A | None``, ``Literal["a"]`` or ``Callable[[], None]``."""
    match node:
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return _is_type(left) and _is_type(right)
        case ast.Subscript(value=value):
            return _is_type(value)
        case ast.Constant(value=None):
            return True
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return (
                name[:1].isupper()
                or name.lstrip("_")[:1].isupper()
                or name in {"int", "str", "float", "dict"}
            )
        case _:
            return False


# --- Which changes are made there. ---


def _edits(place: _Place) -> Iterator[_Edit]:
    make = _MAKERS.get(type(place.node))
    return make(place, place.node) if make is not None else iter(())


def _compare(_: _Place, node: ast.Compare) -> Iterator[_Edit]:
    for index, operator in enumerate(node.ops):
        for other in _COMPARISONS[type(operator)]:
            yield _Edit(node, "ops", index, other())


def _and_or(_: _Place, node: ast.BoolOp) -> Iterator[_Edit]:
    yield _Edit(node, "op", None, ast.Or() if isinstance(node.op, ast.And) else ast.And())


def _unary(place: _Place, node: ast.UnaryOp) -> Iterator[_Edit]:
    if not isinstance(node.op, ast.UAdd):
        yield place.put(node.operand)


def _arithmetic(_: _Place, node: ast.BinOp) -> Iterator[_Edit]:
    # Text is joined with +, and takes no other operator.
    if not (_is_type(node) or _is_text(node.left) or _is_text(node.right)):
        yield _Edit(node, "op", None, _ARITHMETIC[type(node.op)]())


def _in_place(place: _Place, node: ast.AugAssign) -> Iterator[_Edit]:
    yield _Edit(node, "op", None, _ARITHMETIC[type(node.op)]())
    yield place.put(ast.Pass())


def _constant(place: _Place, node: ast.Constant) -> Iterator[_Edit]:
    for value in _other_values(place, node.value):
        yield place.put(ast.Constant(value))


def _table(place: _Place, node: ast.Dict | ast.Set | ast.List) -> Iterator[_Edit]:
    if _is_table(place):
        for index in range(len(_rows(node))):
            yield place.put(_without(node, index))


def _call(_: _Place, node: ast.Call) -> Iterator[_Edit]:
    if isinstance(node.func, ast.Name) and node.func.id in _OTHER_FUNCTION:
        yield _Edit(node, "func", None, _like(node.func, ast.Name(_OTHER_FUNCTION[node.func.id], ast.Load())))


def _return(place: _Place, node: ast.Return) -> Iterator[_Edit]:
    for value in _other_results(place, node):
        yield _Edit(node, "value", None, _like(node, ast.Constant(value)))


def _continue(place: _Place, _: ast.Continue) -> Iterator[_Edit]:
    yield place.put(ast.Break())


def _statement(place: _Place, _: ast.stmt) -> Iterator[_Edit]:
    yield place.put(ast.Pass())


def _assignment(place: _Place, node: ast.Assign) -> Iterator[_Edit]:
    # Without that of a plain name the name is missing, which any run of the line notices.
    if isinstance(node.targets[0], ast.Attribute | ast.Subscript):
        yield place.put(ast.Pass())


def _condition(_: _Place, node: ast.If | ast.While | ast.IfExp) -> Iterator[_Edit]:
    if _needs_negation(node.test):
        yield _Edit(node, "test", None, _negated(node.test))


def _comprehension(_: _Place, node: ast.comprehension) -> Iterator[_Edit]:
    for index, test in enumerate(node.ifs):
        if _needs_negation(test):
            yield _Edit(node, "ifs", index, _negated(test))


def _case(_: _Place, node: ast.match_case) -> Iterator[_Edit]:
    if node.guard is not None and _needs_negation(node.guard):
        yield _Edit(node, "guard", None, _negated(node.guard))


_MAKERS: Final[dict[type[ast.AST], Callable[[_Place, Any], Iterator[_Edit]]]] = {
    ast.Compare: _compare,
    ast.BoolOp: _and_or,
    ast.UnaryOp: _unary,
    ast.BinOp: _arithmetic,
    ast.AugAssign: _in_place,
    ast.Constant: _constant,
    ast.Dict: _table,
    ast.Set: _table,
    ast.List: _table,
    ast.Call: _call,
    ast.Return: _return,
    ast.Continue: _continue,
    ast.Break: _statement,
    ast.Expr: _statement,
    ast.Raise: _statement,
    ast.Delete: _statement,
    ast.Assign: _assignment,
    ast.If: _condition,
    ast.While: _condition,
    ast.IfExp: _condition,
    ast.comprehension: _comprehension,
    ast.match_case: _case,
}


def _is_table(place: _Place) -> bool:
    """Whether this is data that an import builds, and that a test should know each row of."""
    return not any(isinstance(above, (*_FUNCTIONS, ast.Lambda)) for above in place.ancestors())


def _without(table: ast.Dict | ast.Set | ast.List, index: int) -> ast.expr:
    def rest(items: list[Any]) -> list[Any]:
        return items[:index] + items[index + 1 :]

    if isinstance(table, ast.Dict):
        return ast.Dict(rest(table.keys), rest(table.values))
    if isinstance(table, ast.List):
        return ast.List(rest(table.elts), ast.Load())
    left = rest(table.elts)
    return ast.Set(left) if left else ast.Call(ast.Name("set", ast.Load()), [], [])


def _like(old: ast.AST, new: ast.AST) -> Any:
    return ast.fix_missing_locations(ast.copy_location(new, old))


def _negated(test: ast.expr) -> ast.expr:
    negated: ast.expr = _like(test, ast.UnaryOp(ast.Not(), test))
    return negated


def _needs_negation(test: ast.expr) -> bool:
    """Whether no other change turns the condition round already."""
    match test:
        case ast.Compare(ops=[_]) | ast.UnaryOp(op=ast.Not()) | ast.Constant():
            return False
        case _:
            return True


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    )


def _other_values(place: _Place, given: object) -> tuple[Any, ...]:
    match given:
        case bool(value):
            return (not value,)
        case int(value) | float(value):
            return (value + 1, value - 1)
        case str(value) if _is_looked_up(place):
            return (f"X{value}X",)
        case bytes(value) if _is_looked_up(place):
            return (b"X" + value + b"X",)
        case _:
            return ()


def _is_looked_up(place: _Place) -> bool:
    match place.parent:
        case ast.Compare() | ast.MatchValue():
            return True
        case ast.Dict():
            return place.field == "keys"
        case ast.Subscript():
            return place.field == "slice"
        case ast.Call(func=ast.Attribute(attr=name)):
            return name in _LOOK_UPS and place.field == "args" and place.index == 0
        case ast.Tuple() | ast.Set() | ast.List():
            assert place.above is not None
            return _is_compared(place.above) or (_is_table(place) and _is_key(place))
        case _:
            return False


def _is_key(place: _Place) -> bool:
    """Whether the rows of a table are found by this: all of a plain list, the first of each record."""
    assert place.above is not None
    match place.above.parent:
        case ast.Tuple() | ast.List():
            return place.index == 0
        case ast.Dict():
            return False
        case _:
            return True


def _is_compared(place: _Place) -> bool:
    match place.parent:
        case ast.Compare():
            return True
        case ast.Call(func=func):
            return _last_name(func) in {"startswith", "endswith"}
        case _:
            return False


def _other_results(place: _Place, node: ast.Return) -> tuple[Any, ...]:
    if node.value is None or isinstance(node.value, ast.Constant):
        return ()  # The constant itself is changed.
    function = next(above for above in place.ancestors() if isinstance(above, _FUNCTIONS))
    match function.returns:
        case ast.Name(id="bool"):
            return (True, False)
        case ast.Constant(value=None) | ast.Name(id="NoReturn" | "Never"):
            return ()
        case _:
            return (None,)


# --- How they are told. ---


def _where(place: _Place) -> str:
    names = [node.name for node in place.ancestors() if isinstance(node, _Definition)]
    return ".".join(reversed(names)) or "<module>"


def _shown(place: _Place, edit: _Edit) -> str:
    """Return the change with as much around it as fits."""
    shown: ast.AST = place.node
    if isinstance(shown, ast.If | ast.While):
        shown = shown.test
    elif not isinstance(shown, ast.stmt):
        for above in place.ancestors():
            if isinstance(above, (*_COMPOUND, ast.Module, ast.Lambda)) or len(ast.unparse(above)) > _SHOWN:
                break
            shown = above
    if isinstance(place.node, ast.Dict | ast.Set | ast.List):
        return f"without {_row(place.node, edit.new)}"
    before = ast.unparse(shown)
    back = edit.make()
    after = ast.unparse(edit.new if shown is back.new else shown)
    back.make()
    return f"{_one_line(before)} => {_one_line(after)}"


def _row(table: ast.Dict | ast.Set | ast.List, left: ast.AST) -> str:
    """Return the row of a table that is left out."""
    kept = {id(row) for row in _rows(left)}
    return _one_line(next(ast.unparse(row) for row in _rows(table) if id(row) not in kept))


def _rows(table: ast.AST) -> list[ast.expr]:
    match table:
        case ast.Dict():
            return [key or value for key, value in zip(table.keys, table.values, strict=True)]
        case ast.Set() | ast.List():
            return table.elts
        case _:
            return []


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _lines(place: _Place) -> range:
    """Return the lines of the statement, or of the part of a compound one that is changed."""
    spot = _spot(place)
    return range(spot.lineno, (spot.end_lineno or spot.lineno) + 1) if spot is not None else range(1, 2)


def _spot(place: _Place) -> ast.stmt | ast.expr | ast.pattern | None:
    if isinstance(place.node, ast.If | ast.While):
        return place.node.test
    nodes = [place.node, *place.ancestors()]
    statement = next((node for node in nodes if isinstance(node, ast.stmt)), None)
    if not isinstance(statement, _COMPOUND):
        return statement
    return next((node for node in nodes if isinstance(node, ast.expr | ast.pattern)), None)


def _outermost_function(place: _Place) -> tuple[str, int] | None:
    below: _Place = place
    function: tuple[ast.FunctionDef | ast.AsyncFunctionDef, _Place] | None = None
    while below.above is not None:
        if isinstance(below.above.node, _FUNCTIONS):
            function = (below.above.node, below.above) if below.field == "body" else None
        below = below.above
    if function is None:
        return None
    node, at = function
    names = [above.name for above in at.ancestors() if isinstance(above, _Definition)]
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return ".".join([*reversed(names), node.name]), first
