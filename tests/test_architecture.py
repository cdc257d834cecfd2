"""How the code hangs together: imports point one way, no module needs itself, and each says what it is for.

Read from the source with `ast`, so that an import inside a function or under TYPE_CHECKING counts like any other.
"""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# What a package may not import. A name stands for itself and for all below it.
CELERY = {"amqp", "billiard", "celery", "kombu", "redis", "valkey"}
CONCURRENCY = {"asyncio", "concurrent", "multiprocessing", "queue", "threading"}
FORBIDDEN = {
    "celeryconfig": {"models", "tasks", "worker"},
    "models": CELERY | CONCURRENCY | {
        "alembic", "psycopg", "socket", "subprocess", "tasks", "tenacity", "worker",
        "sqlalchemy.Engine", "sqlalchemy.create_engine", "sqlalchemy.engine", "sqlalchemy.ext.asyncio",
        "sqlalchemy.orm.Session", "sqlalchemy.orm.sessionmaker", "sqlmodel.Session", "sqlmodel.create_engine",
    },
    "worker": {"tasks"},
    "worker.app": {"worker.cli"},
    "worker.broker": {"worker.cli", "worker.intake", "worker.stack"},
    "worker.engine": CELERY | CONCURRENCY | {
        "worker.app", "worker.broker", "worker.cli", "worker.intake", "worker.stack",
    },
    "worker.intake": {"worker.cli", "worker.reading", "worker.sending", "worker.stack"},
    "worker.porting": CELERY | CONCURRENCY | {
        "worker.app", "worker.broker", "worker.cli", "worker.sending", "worker.settings", "worker.stack",
    },
    "worker.proving": CELERY | CONCURRENCY | {
        "worker.app", "worker.broker", "worker.cli", "worker.intake", "worker.porting", "worker.sending",
        "worker.settings", "worker.stack",
    },
    "worker.postgres": CELERY | CONCURRENCY | {
        "worker.app", "worker.broker", "worker.cli", "worker.engine", "worker.intake", "worker.reading",
        "worker.sending", "worker.settings", "worker.stack",
    },
    "worker.reading": CELERY | CONCURRENCY | {
        "worker.app", "worker.broker", "worker.cli", "worker.intake", "worker.sending", "worker.settings",
        "worker.stack",
    },
    "worker.sending": {
        "psycopg", "sqlalchemy", "worker.app", "worker.broker", "worker.cli", "worker.engine", "worker.intake",
        "worker.postgres", "worker.reading", "worker.settings", "worker.stack",
    },
    "worker.stack": {
        "celery", "kombu", "worker.app", "worker.broker", "worker.cli", "worker.engine", "worker.intake",
        "worker.postgres",
    },
    "tasks": {"worker.app", "worker.cli", "worker.stack"},
}  # fmt: skip


def our_modules() -> dict[str, Path]:
    """Give each source file by its dotted name, a package's `__init__.py` by the package's."""
    files = [ROOT / "celeryconfig.py"]
    for package in ("models", "worker", "tasks"):
        files += sorted((ROOT / package).rglob("*.py"))
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def imports(file: Path) -> set[str]:
    """Give all that a file imports, by full name: `from a import b` is `a.b`, whether `b` is a module or not."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}, line {node.lineno}: a relative import hides which way it points"
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


MODULES = our_modules()
RULES = [(module, package) for module in MODULES for package in FORBIDDEN if is_in(module, package)]


def dependencies(module: str) -> set[str]:
    """Give the modules of ours that a module imports: of `a.b.c` the longest part that is a module."""
    return {
        max((ours for ours in MODULES if is_in(name, ours)), key=len)
        for name in imports(MODULES[module])
        if any(is_in(name, ours) for ours in MODULES)
    } - {module}


@pytest.mark.parametrize(("module", "package"), RULES)
def test_imports_point_one_way(module: str, package: str) -> None:
    wrong = {name for name in imports(MODULES[module]) if any(is_in(name, it) for it in FORBIDDEN[package])}

    assert not wrong


def test_no_module_needs_itself_by_way_of_others() -> None:
    graph = {module: dependencies(module) for module in MODULES}

    TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules of the cycle


@pytest.mark.parametrize("module", MODULES)
def test_each_module_says_what_it_is_for(module: str) -> None:
    docstring = ast.get_docstring(ast.parse(MODULES[module].read_bytes()))

    assert docstring


@pytest.mark.parametrize("module", [module for module, file in MODULES.items() if file.name == "__init__.py"])
def test_a_package_holds_a_docstring_and_nothing_else(module: str) -> None:
    body = ast.parse(MODULES[module].read_bytes()).body

    assert len(body) == 1
