"""Imports go one way: pipeline -> stages -> manifests, cache; and no stage imports another."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "stages", "cache", "manifests")
ALLOWED = {
    "cache": {"cache"},
    "manifests": {"manifests"},
    "stages": {"stages", "cache", "manifests"},
    "pipeline": set(PACKAGES),
}


def imported_modules(path: Path) -> set[str]:
    """Absolute dotted names of the project's own modules that one file imports, at any depth of the code."""
    module = path.relative_to(ROOT).with_suffix("").parts
    package = module if path.name == "__init__.py" else module[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            prefix = ".".join(part for part in (base, node.module or "") if part)
            found |= {prefix} | {f"{prefix}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in PACKAGES}


def sources() -> list[Path]:
    return [p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    assert {name.split(".")[0] for name in imported_modules(path)} <= ALLOWED[package]


def test_no_stage_imports_another() -> None:
    for path in sorted((ROOT / "stages").rglob("*.py")):
        own = path.relative_to(ROOT).parts[1]
        others = {n.split(".")[1] for n in imported_modules(path) if n.startswith("stages.")} - {
            own,
            "common",
        }
        assert not others & {p.name for p in (ROOT / "stages").iterdir() if p.is_dir()}, path


def test_only_the_pipeline_knows_click_and_dvc() -> None:
    for path in sources():
        if path.relative_to(ROOT).parts[0] == "pipeline":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        names |= {
            (n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and not n.level
        }
        assert not names & {"click", "dvc"}, path
