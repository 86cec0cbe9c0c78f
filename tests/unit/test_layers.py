"""The layers of `docs/architecture.md`, held by walking the source: no module is imported here."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "daemon" / "httpd"

# An import may point to the same layer or to one further up.  `httpd` itself holds only the version, and `__main__`
# only starts the cli: they are in no layer.
LAYERS = ("protocol", "config", "system", "logs", "content", "cgi", "server", "worker", "control", "master", "cli")
EXCEPTED = ("httpd", "httpd.__main__")

MODULE_LINES, FUNCTION_LINES = 350, 50

FILES = sorted(SOURCE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imported(tree: ast.AST, module: str, *, package: bool, known: set[str]) -> Iterator[tuple[str, int]]:
    """What `module` imports of `httpd`, wherever the statement stands: (module, line).

    `from a import b` means the module `a.b` where there is one, else `a`.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "httpd":
                    yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".") if package else module.split(".")[:-1]
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            if base.split(".")[0] == "httpd":
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    yield (inner if inner in known else base), node.lineno


def layer(module: str) -> str:
    """The folder below httpd, or the module that stands there by itself."""
    return module.split(".")[1]


def wrong_way(module: str, target: str) -> bool:
    return LAYERS.index(layer(target)) > LAYERS.index(layer(module))


def edges() -> dict[str, list[tuple[str, int]]]:
    known = set(MODULES)
    return {
        module: list(
            imported(ast.parse(path.read_text()), module, package=path.name == "__init__.py", known=known)
        )
        for module, path in MODULES.items()
    }


EDGES = edges()


def test_every_module_is_in_a_layer() -> None:
    assert [module for module in MODULES if module not in EXCEPTED and layer(module) not in LAYERS] == []


def test_no_import_points_down() -> None:
    wrong = [
        f"{module}:{line} imports {target}"
        for module, targets in EDGES.items()
        if module not in EXCEPTED
        for target, line in targets
        if target not in EXCEPTED and wrong_way(module, target)
    ]
    assert wrong == []


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """One cycle, or nothing."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for target in sorted(graph.get(node, ())):
            if found := visit(target, [*path, node]):
                return found
        done.add(node)
        return []

    return next(filter(None, (visit(node, []) for node in sorted(graph))), [])


def test_no_import_cycle() -> None:
    assert cycle({module: {target for target, _ in targets} - {module} for module, targets in EDGES.items()}) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_shape(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    sizes = {node.name: (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}
    assert len(text.splitlines()) <= MODULE_LINES
    assert {name: size for name, size in sizes.items() if size > FUNCTION_LINES} == {}
    # An __init__ that only marks a folder may be empty.
    assert ast.get_docstring(tree) or (path.name == "__init__.py" and not text)


# The walk itself must see what it is to forbid.


@pytest.mark.parametrize(
    ("statement", "target"),
    [
        ("import httpd.master.crew", "httpd.master.crew"),
        ("from httpd.master.crew import Crew", "httpd.master.crew"),
        ("from httpd.master import crew", "httpd.master.crew"),
        ("from ..master import crew", "httpd.master.crew"),
        ("from ..master.crew import Crew as Other", "httpd.master.crew"),
        ("def later():\n    from httpd.master.crew import Crew", "httpd.master.crew"),
        ("if TYPE_CHECKING:\n    from httpd.master.crew import Crew", "httpd.master.crew"),
    ],
)
def test_the_walk_sees(statement: str, target: str) -> None:
    tree = ast.parse(textwrap.dedent(statement))
    found = [name for name, _ in imported(tree, "httpd.worker.loop", package=False, known=set(MODULES))]
    assert found == [target]
    assert wrong_way("httpd.worker.loop", target)


def test_the_walk_sees_siblings_of_a_package() -> None:
    tree = ast.parse("from .crew import Crew")
    found = list(imported(tree, "httpd.master", package=True, known=set(MODULES)))
    assert found == [("httpd.master.crew", 1)]


def test_a_cycle_is_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]
