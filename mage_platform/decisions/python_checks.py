"""Rules about Python code, by its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from mage_platform.decisions.findings import Finding
from mage_platform.decisions.project import Project, calls_in, imports, name_of, text_of

CONTRACTS = "mage_platform/contracts/"
_POJO_CALLS = {"download_pojo", "save_pojo", "get_pojo"}
_PREDICTS = {
    "predict", "predict_sync", "predict_proba", "predict_log_proba", "predict_contributions", "decision_function",
    "score0",
}  # fmt: skip
_CONTRACT_BASES = {"BaseModel", "RootModel", "Contract", "TypedDict", "NamedTuple"}
_TTL_WORDS = {"ex", "px", "exat", "pxat", "keepttl"}
_WITHOUT_TTL = {"setnx", "mset", "msetnx", "getset"}
_IDENTITY = ("model", "mojo", "version", "digest", "sha")
_WEB = {"fastapi", "starlette"}


def plain_java_exports(project: Project) -> Iterator[Finding]:
    """Calls that make a POJO."""
    for path, tree in project.python.items():
        for call in calls_in(tree):
            called = name_of(call.func)
            asked = any(each.arg == "get_pojo" and _is_true(each.value) for each in call.keywords)
            if called in _POJO_CALLS or asked:
                yield Finding(path, call.lineno, "no-pojo", f"{called}() makes a POJO")


def synchronous_predictions(project: Project) -> Iterator[Finding]:
    """Predictions computed on the event loop of a web application."""
    for path, tree in project.python.items():
        if not _WEB & imports(tree):
            continue
        for function in ast.walk(tree):
            if isinstance(function, ast.AsyncFunctionDef):
                for call in _on_the_loop(function):
                    message = f"{function.name}() calls {name_of(call.func)}() on the event loop"
                    yield Finding(path, call.lineno, "no-sync-predict", message)


def _on_the_loop(function: ast.AsyncFunctionDef) -> Iterator[ast.Call]:
    """Calls of a predict that run when the coroutine does: not awaited, not within a function of their own."""
    awaited: set[ast.AST] = set()
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            continue
        if isinstance(node, ast.Await):
            awaited.add(node.value)
        if isinstance(node, ast.Call) and name_of(node.func) in _PREDICTS and node not in awaited:
            yield node
        waiting.extend(ast.iter_child_nodes(node))


def redeclared_contracts(project: Project) -> Iterator[Finding]:
    """Classes of a contract's name that are declared once more outside the contracts."""
    shared = {
        node.name: path
        for path, tree in project.python.items()
        if path.startswith(CONTRACTS)
        for node in tree.body
        if isinstance(node, ast.ClassDef) and _is_contract(node)
    } or {"FeatureVector": f"{CONTRACTS}features.py"}
    for path, tree in project.python.items():
        if path.startswith(CONTRACTS):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name in shared and _is_contract(node):
                message = f"{node.name} is declared here and in {shared[node.name]}"
                yield Finding(path, node.lineno, "one-contract", message)


def _is_contract(node: ast.ClassDef) -> bool:
    bases = {name_of(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases}
    decorators = {name_of(each.func if isinstance(each, ast.Call) else each) for each in node.decorator_list}
    return bool(bases & _CONTRACT_BASES) or "dataclass" in decorators


def endless_cache_values(project: Project) -> Iterator[Finding]:
    """Values set in Redis without a TTL."""
    for path, tree in project.python.items():
        if "redis" not in imports(tree):
            continue
        for call in calls_in(tree):
            called = name_of(call.func)
            if not isinstance(call.func, ast.Attribute):
                continue
            given = {each.arg for each in call.keywords}
            # `**options` (None here) may hold it, and `ex` is the third place
            endless = called == "set" and len(call.args) == 2 and not given & {*_TTL_WORDS, None}
            if endless or called in _WITHOUT_TTL:
                yield Finding(path, call.lineno, "cache-has-ttl", f"{called}() keeps a value without a TTL")


def anonymous_cache_keys(project: Project) -> Iterator[Finding]:
    """Keys of predictions that do not name a model, or that hash() makes."""
    for path, tree in project.python.items():
        for node in ast.walk(tree):
            parts = _key_parts(node)
            if parts is None:
                continue
            if any(name_of(call.func) == "hash" for part in parts for call in calls_in(part)):
                yield Finding(path, node.lineno, "cache-key-names-model", "hash() differs in every process")  # type: ignore[attr-defined]
            elif not any(word in ast.unparse(part).lower() for part in parts for word in _IDENTITY):
                message = "the key of a prediction names no model"
                yield Finding(path, node.lineno, "cache-key-names-model", message)  # type: ignore[attr-defined]


def _key_parts(node: ast.AST) -> list[ast.expr] | None:
    """What is put into a text that begins like the key of a prediction; None for anything else."""
    if isinstance(node, ast.JoinedStr) and node.values and _like_a_key(text_of(node.values[0])):
        return [each.value for each in node.values if isinstance(each, ast.FormattedValue)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and _like_a_key(text_of(node.left)):
        return [node.right]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        arguments = [*node.args, *(each.value for each in node.keywords)]
        return arguments if _like_a_key(text_of(node.func.value)) else None
    return None


def _like_a_key(text: str | None) -> bool:
    return text is not None and text.lower().startswith(("pred:", "prediction:", "predictions:", "predict:"))


def direct_connections(path: str, tree: ast.Module) -> Iterator[Finding]:
    """Connections to PostgreSQL's own port."""
    for call in calls_in(tree):
        if name_of(call.func) in ("connect", "create_engine", "ConnectionPool", "AsyncConnectionPool", "create_pool"):
            ports = [each.value for each in call.keywords if each.arg == "port"]
            direct = any(isinstance(each, ast.Constant) and str(each.value) == "5432" for each in ports)
            address = text_of(call.args[0]) if call.args else None
            if direct or (address is not None and _direct_address(address)):
                yield Finding(path, call.lineno, "no-direct-postgres", f"{name_of(call.func)}() goes to port 5432")


def _direct_address(address: str) -> bool:
    is_url = address.startswith(("postgres://", "postgresql://", "postgresql+"))
    return (is_url and ":5432" in address) or "port=5432" in address.replace(" ", "")


def _is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def is_block(path: str) -> bool:
    """Whether a file is a block of a Mage project."""
    return Path(path).parent.name in ("data_loaders", "transformers", "data_exporters", "custom", "sensors")
