"""R25: SQL is never made of data. Every statement is a constant of the source; what varies is a parameter."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kitaru
from kitaru.client import KitaruClient
from kitaru.compose import close_logs, open_log
from kitaru.domain.errors import KitaruUsageError
from kitaru.settings import StoreChoice
from tests.client.recording import started

PACKAGE = Path(kitaru.__file__).parent
ROOT = PACKAGE.parent

# --- the source --------------------------------------------------------------------------------------------------------

SINKS = {"execute": 0, "executemany": 0, "executescript": 0, "query": 0, "_Walk": 1, "_make_indexes": 1}
"""Who runs a statement, and which argument it is."""

PASSES_ON = {
    ("kitaru/store/read.py", "query", "sql"),
    ("kitaru/store/sqlite/log.py", "query", "sql"),
    ("kitaru/store/memory.py", "query", "sql"),
    ("kitaru/projections/listing/sources.py", "__init__", "sql"),
    ("kitaru/store/sqlite/connection.py", "_make_indexes", "missing"),
}
"""Parameters that are handed on to a sink: their functions are sinks themselves."""

TEMPLATES = {
    ("kitaru/projections/executions.py", "made"): "return sql.replace('{p}', prefix)",
    ("kitaru/store/sqlite/rebuild.py", "_named"): (
        "assert all((_IDENTIFIER.fullmatch(table) for table in tables.values()))\nreturn template.format(**tables)"
    ),
    ("kitaru/analytics/export/stage.py", "_named"): "assert table in shapes.TABLES\nreturn template.format(table=table)",
    ("kitaru/store/sqlite/verify.py", "_named"): "assert _IDENTIFIER.fullmatch(table)\nreturn template.format(table=table)",
}
"""The functions that put a table's name into a constant template, and all that they do."""

COMPOSED = ("kitaru/analytics/statement.py", "sentence")
"""The one function that puts statements together. Its words are from a closed vocabulary, or whole numbers."""

WORDS = "kitaru/analytics/words.py"

PROJECTORS = {"make", "Executions", "PendingWaits", "Artifacts", "ReuseIndex", "Usage"}

FILLINGS = {"('{p}', prefix)", "('{g}', f'_g{generation}')", "('{t}', self._table)", "('{value}', _VALUE)"}
"""What a template may be filled with in place: a projector's table prefix, the number of a rebuild, the test kit's
table, and a constant of the same module.
"""


class Source:
    """A module, and what is bound to its names."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.tree = ast.parse(text)
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    def around(self, node: ast.AST) -> Iterator[ast.AST]:
        """What a node stands in, from the inside out."""
        while (found := self.parents.get(node)) is not None:
            yield found
            node = found

    def calls(self) -> Iterator[tuple[ast.Call, ast.expr]]:
        """Each call of a sink with its statement. A log's `execute` takes an id, a command and a time: it is not SQL."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                place = SINKS.get(called(node))
                if place is None or (place == 0 and len(node.args) == 3):
                    continue
                yield node, node.args[place] if len(node.args) > place else ast.Name("missing")

    def built(self) -> list[str]:
        """The calls whose statement is not constant."""
        return [f"{self.name}:{node.lineno} {ast.unparse(node)}" for node, sql in self.calls() if not self.is_fixed(sql)]

    def is_fixed(self, node: ast.AST) -> bool:
        """Whether a statement, or a collection of statements, is made of this program's text alone."""
        match node:
            case ast.Constant(value=str()):
                return True
            case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Dict(values=parts):
                return bool(parts) and all(map(self.is_fixed, parts))
            case ast.IfExp(body=body, orelse=orelse):
                return self.is_fixed(body) and self.is_fixed(orelse)
            case ast.Subscript(value=whole) | ast.BinOp(left=whole, op=ast.Sub()):  # some of a collection
                return self.is_fixed(whole)
            case ast.Name(id=name):
                return self.is_name_fixed(node, name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                owner = next((n for n in self.around(node) if isinstance(n, ast.ClassDef)), None)
                return owner is not None and self.are_bindings_fixed(owner, f"self.{name}")
            case ast.Attribute(value=ast.Name(id="schema"), attr=name):
                return source("kitaru/store/sqlite/schema.py").is_global_fixed(name)
            case ast.Attribute(value=ast.Name(id=module), attr=name):
                home = self.home_of(module)
                return home is not None and home.endswith("/") and source(f"{home}{module}.py").is_global_fixed(name)
            case ast.BinOp(left=left, op=ast.Add(), right=right) if isinstance(left, ast.Attribute):
                return self.is_fixed(left) and self.is_fixed(right)  # one module's statements and then another's
            case ast.Call(func=ast.Name(id="tuple" | "frozenset"), args=[ast.GeneratorExp(elt=each) | each]):
                return self.is_fixed(each)
            case ast.Call(func=ast.Attribute(value=template, attr="replace"), args=[old, new]):
                return f"({ast.unparse(old)}, {ast.unparse(new)})" in FILLINGS and self.is_fixed(template)
            case ast.Call(func=ast.Name(id=name), args=[template, *_]) if (self.name, name) in TEMPLATES:
                return self.is_fixed(template)
            case ast.Call(func=ast.Name(id=name)) if name == COMPOSED[1]:
                return self.home_of(name) == COMPOSED[0]
        return False

    def is_name_fixed(self, node: ast.AST, name: str) -> bool:
        for owner in self.around(node):
            if isinstance(owner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.GeneratorExp, ast.ListComp)):
                if isinstance(owner, (ast.FunctionDef, ast.AsyncFunctionDef)) and name in parameters(owner):
                    return (self.name, owner.name, name) in PASSES_ON and not list(self.bindings(owner, name))
                if list(self.bindings(owner, name)):
                    return self.are_bindings_fixed(owner, name)
        return self.is_global_fixed(name)

    def home_of(self, name: str) -> str | None:
        """The module that a global name is imported from; the package, with a slash, when the name is a module."""
        for statement in self.tree.body:
            if isinstance(statement, ast.ImportFrom) and name in {each.name for each in statement.names if not each.asname}:
                package = str(statement.module).replace(".", "/")
                return f"{package}/" if (ROOT / package / f"{name}.py").is_file() else f"{package}.py"
        return None

    def is_global_fixed(self, name: str) -> bool:
        for statement in self.tree.body:
            if isinstance(statement, ast.ImportFrom) and name in {each.asname or each.name for each in statement.names}:
                home = f"{str(statement.module).replace('.', '/')}.py"
                return (ROOT / home).is_file() and source(home).is_global_fixed(name)
        return self.are_bindings_fixed(self.tree, name)

    def are_bindings_fixed(self, owner: ast.AST, name: str) -> bool:
        found = list(self.bindings(owner, name))
        return bool(found) and all(value is not None and self.is_fixed(value) for value in found)

    def bindings(self, owner: ast.AST, name: str) -> Iterator[ast.AST | None]:
        """The values bound to a name (or `self.name`) under a node; None for a binding that is not understood."""
        for node in ast.walk(owner):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    yield from bound(target, node.value, name)
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                yield from bound(node.target, node.value, name)
            elif isinstance(node, (ast.AugAssign, ast.NamedExpr)) and ast.unparse(node.target) == name:
                yield None
            elif isinstance(node, (ast.For, ast.comprehension)):
                rows = self.written_out(node.iter) if isinstance(node.target, ast.Tuple) else None
                if rows is not None:
                    for row in rows.elts:
                        yield from bound(node.target, row, name)
                else:
                    yield from bound(node.target, node.iter, name)

    def written_out(self, node: ast.AST) -> ast.Tuple | None:
        """The tuple that an expression is, or that the module binds its name to."""
        if isinstance(node, ast.Name):
            found = [
                each for each in self.tree.body if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == node.id
            ]
            return self.written_out(found[0].value) if len(found) == 1 else None
        return node if isinstance(node, ast.Tuple) else None


def called(node: ast.Call) -> str:
    """The name by which something is called: `query` for query(...), self._query(...) and reader.query(...)."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name if name in SINKS else name.lstrip("_")


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    arguments = function.args
    return {each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}


def bound(target: ast.AST, value: ast.AST, name: str) -> Iterator[ast.AST | None]:
    if isinstance(target, (ast.Tuple, ast.List)):
        values = value.elts if isinstance(value, (ast.Tuple, ast.List)) else None
        for place, part in enumerate(target.elts):
            if values is not None and len(values) == len(target.elts):
                yield from bound(part, values[place], name)
            elif name in {ast.unparse(each) for each in ast.walk(part) if isinstance(each, (ast.Name, ast.Attribute))}:
                yield None
    elif isinstance(target, (ast.Name, ast.Attribute)) and ast.unparse(target) == name:
        yield value


_sources: dict[str, Source] = {}


def source(name: str) -> Source:
    if name not in _sources:
        _sources[name] = Source(name, (ROOT / name).read_text(encoding="utf-8"))
    return _sources[name]


MODULES = sorted(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py"))


def test_every_statement_is_a_constant_of_the_source() -> None:
    calls = [call for module in MODULES for call in source(module).calls()]
    assert len(calls) > 100, "the calls are no longer found"
    assert [found for module in MODULES for found in source(module).built()] == []


def test_templates_take_a_tables_name_and_nothing_else() -> None:
    for (module, name), body in TEMPLATES.items():
        (function,) = (n for n in ast.walk(source(module).tree) if isinstance(n, ast.FunctionDef) and n.name == name)
        statements = [each for each in function.body if not (isinstance(each, ast.Expr) and ast.get_docstring(function))]
        assert "\n".join(map(ast.unparse, statements)) == body


def test_a_sentence_is_made_of_the_vocabulary_and_of_whole_numbers() -> None:
    (function,) = (n for n in source(COMPOSED[0]).tree.body if isinstance(n, ast.FunctionDef) and n.name == COMPOSED[1])
    assert "\n".join(map(ast.unparse, function.body[1:])) == (
        "words = tuple(words)\n"
        "if not all((type(word) is int or word in VOCABULARY for word in words)):\n"
        "    raise AssertionError('a statement is made of the vocabulary and of whole numbers')\n"
        "return ''.join(map(str, words))"
    )
    assert source(COMPOSED[0]).home_of("VOCABULARY") == WORDS


def test_the_vocabulary_is_text_of_the_source() -> None:
    from kitaru.analytics.words import VOCABULARY

    made: set[str] = set()
    for statement in source(WORDS).tree.body:
        match statement:
            case ast.Expr(value=ast.Constant()) | ast.ImportFrom():
                pass
            case ast.AnnAssign(target=ast.Name(id="VOCABULARY")) | ast.FunctionDef(name="_texts"):
                pass
            case ast.AnnAssign(value=ast.expr() as value):
                ast.literal_eval(value)
                made |= {each.value for each in ast.walk(value) if isinstance(each, ast.Constant)}
            case _:
                raise AssertionError(ast.unparse(statement))
    assert made >= VOCABULARY


@pytest.mark.parametrize("word", ["'; DROP TABLE executions", "s.status ", 1.5, True])
def test_a_word_that_is_not_in_the_vocabulary_is_refused(word: object) -> None:
    from kitaru.analytics.statement import sentence

    with pytest.raises(AssertionError, match="vocabulary"):
        sentence(["SELECT ", word])  # type: ignore[list-item]


def test_the_prefixes_of_tables_are_constants() -> None:
    """Projectors are only ever made with "" and with the shadow's prefix."""
    given_prefixes = {
        ast.unparse(node.args[0])
        for module in MODULES
        if "ProjectorFactory" in (ROOT / module).read_text(encoding="utf-8")
        for node in ast.walk(source(module).tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PROJECTORS
    }
    assert given_prefixes == {"''", "SHADOW"}
    assert source("kitaru/store/sqlite/rebuild.py").is_global_fixed("SHADOW")


def test_a_sink_goes_by_no_other_name() -> None:
    """`.execute` and `.query` are called, handed to a parameter, or bound to their own names: so all calls are found."""
    stray: list[str] = []
    for module in MODULES:
        found = source(module)
        for node in ast.walk(found.tree):
            if isinstance(node, ast.Attribute) and node.attr.lstrip("_") in SINKS and isinstance(node.ctx, ast.Load):
                parent = found.parents[node]
                targets = [ast.unparse(each) for each in parent.targets] if isinstance(parent, ast.Assign) else []
                if not isinstance(parent, ast.Call) and targets not in (["execute"], ["query"]):
                    stray.append(f"{module}:{node.lineno} {ast.unparse(parent)}")
            if isinstance(node, ast.arg) and node.annotation is not None:
                kind = ast.unparse(node.annotation)
                if kind in ("Execute", "Query") and node.arg != kind.lower():
                    stray.append(f"{module}:{node.lineno} {node.arg}: {kind}")
    assert stray == []


HEAD = "CONSTANT = 'SELECT 1'\nSTATEMENTS = (CONSTANT, 'SELECT 2')\n"


@pytest.mark.parametrize(
    "body",
    [
        "execute(f'SELECT {name}')",
        "execute('SELECT ' + name)",
        "execute('SELECT %s' % name)",
        "execute('SELECT {}'.format(name))",
        "execute(' '.join(['SELECT', name]))",
        "execute('SELECT {p}'.replace('{p}', name))",
        "execute('SELECT {g}'.replace('{g}', f'_g{name}'))",
        "execute(name)",
        "self.connection.execute(self._sql)",
        "sql = 'SELECT 1'; sql += name; execute(sql)",
        "sql = 'SELECT ' + name; execute(sql)",
        "a, sql = 'x', f'{name}'; execute(sql)",
        "a, sql = name; execute(sql)",
        "for sql in [CONSTANT, name]: execute(sql)",
        "connection.executemany(name, [()])",
        "connection.executescript(f'{name}')",
        "reader.query(CONSTANT if name else name)",
        "self._query(STATEMENTS[1] + name)",
        "_Walk(query, f'SELECT {name}', ())",
        "execute(BUILT)",
        "execute()",
        "execute(sql=name)",
        "execute(sentence(name))",
    ],
)
def test_the_check_finds_a_statement_that_is_built(body: str) -> None:
    text = f"{HEAD}BUILT = CONSTANT + ' '\ndef run(self, name):\n    {body}"
    assert len(Source("kitaru/some.py", text).built()) == 1


@pytest.mark.parametrize(
    "body",
    ["execute(CONSTANT, (name,))", "execute('SELECT 1')", "query(STATEMENTS[name])", "for sql in STATEMENTS: execute(sql)"],
)
def test_the_check_lets_a_constant_pass(body: str) -> None:
    text = f"{HEAD}def run(self, name):\n    {body}"
    assert Source("kitaru/some.py", text).built() == []


# --- hostile filters ---------------------------------------------------------------------------------------------------

PARTS = (
    "'", '"', "`", ";", "--", "/*", "*/", "(", ")", "%", "_", "*", "?", ":a", "@a", "$a", "\\", "\n", "\0", "\ud800",
    " OR 1=1", " UNION SELECT ", "DROP TABLE executions", "DELETE FROM executions", "executions", "]", "[", "json_each",
    "{p}", "{}", "é", "x",
)  # fmt: skip
HOSTILE = st.lists(st.sampled_from(PARTS), min_size=1, max_size=6).map("".join) | st.text(min_size=1, max_size=30)
KEPT = ("'; DROP TABLE executions; --", '" OR ""="', "') OR 1=1 --", "%", "_", "[1]", "?1", "{p}executions", "a\\'b")
"""What some executions are called, tagged and described by."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KitaruClient, dict[str, str]]]:
    """A store with an execution for each name, and their ids."""
    choice = StoreChoice(str(tmp_path_factory.mktemp("hostile") / "store"), "of the test")
    log = open_log(choice)
    ids = {
        name: started(log, name, tags=(name,), metadata={name: name}, stack=name, project="default").exec_id for name in KEPT
    }
    close_logs()
    with KitaruClient(choice.location) as client:
        yield client, ids


@pytest.mark.parametrize("name", KEPT)
def test_a_name_that_looks_like_sql_finds_what_has_it_and_nothing_else(
    hostile: tuple[KitaruClient, dict[str, str]], name: str
) -> None:
    client, ids = hostile
    filters: list[dict[str, object]] = [
        {"flow": name}, {"stack": name}, {"tags": name}, {"tags": [name]}, {"where": {name: name}},
        {"where": {name: {"=": name}}}, {"where": {name: {">=": name}}}, {"where": {name: {"<=": name}}},
    ]  # fmt: skip
    for each in filters:
        assert [found.exec_id for found in client.executions.list(**each)] == [ids[name]], each  # type: ignore[arg-type]
    assert len(client.executions.list(where={name: {"!=": name}})) == len(KEPT) - 1


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    field=st.sampled_from(
        ["flow", "stack", "tags", "status", "since", "until", "key", "value", "operator", "project", "id"]
    ),
    text=HOSTILE,
)
def test_random_hostile_filters_find_nothing_or_are_refused(
    hostile: tuple[KitaruClient, dict[str, str]], field: str, text: str
) -> None:
    client, ids = hostile
    if text in ids:
        return
    filters: dict[str, object] = {field: text}
    if field in ("key", "value", "operator"):
        condition = {"key": {text: "x"}, "value": {KEPT[0]: text}, "operator": {KEPT[0]: {text: "x"}}}
        filters = {"where": condition[field]}
    elif field == "project":
        client, filters = KitaruClient(client.store.location, project=text) if text.strip() else client, {"flow": "nope"}
    try:
        found = [client.executions.get(text)] if field == "id" else client.executions.list(**filters)  # type: ignore[arg-type]
    except (KitaruUsageError, LookupError):
        found = []
    assert found == []
    assert {each.exec_id for each in hostile[0].executions.list()} == set(ids.values())
