"""Writes docs/modules.md: every package and module with the first line of its docstring.

python docs/write_modules.py          writes it (`make docs`)
python docs/write_modules.py --check  exits with 1 where it is stale (`make lint`)
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "modules.md"
HEAD = """# Modules

Every package and module, with the first line of its docstring. `make docs` writes this page.
[architecture.md](architecture.md) describes how the packages depend on each other.
"""


def summary(path: Path) -> str:
    """Return the first line of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    if not docstring:
        raise SystemExit(f"{path.relative_to(ROOT)}: has no docstring")
    return docstring.partition("\n")[0]


def lines() -> Iterator[str]:
    """Yield the page line by line: a heading for each package, a row for each module and for the twins beside it."""
    yield from HEAD.splitlines()
    for start in sorted((ROOT / name / "__init__.py" for name in ("ratesim", "traffic")), key=str):
        for init in sorted(start.parent.rglob("__init__.py"), key=lambda path: path.parent.parts):
            package = init.parent
            yield from ("", f"## {package.relative_to(ROOT).as_posix()}", "", summary(init))
            modules = [path for path in sorted(package.glob("*.py")) if path.name != "__init__.py"]
            if modules:
                yield from ("", "| module | what it holds |", "|---|---|")
            for path in modules:
                twins = "".join(f", `{twin.suffix}`" for twin in sorted(package.glob(f"{path.stem}.[ls][uq][al]")))
                yield f"| `{path.name}`{twins} | {summary(path).replace('|', chr(92) + '|')} |"


def main() -> None:
    """Write the page, or with --check compare it."""
    page = "\n".join(lines()) + "\n"
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page, "utf-8")
    elif not PAGE.is_file() or PAGE.read_text("utf-8") != page:
        raise SystemExit("docs/modules.md is stale: run `make docs`")


if __name__ == "__main__":
    main()
