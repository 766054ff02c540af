import ast
import subprocess
import sys
from pathlib import Path

import traffic

PACKAGE = Path(traffic.__file__).parent


def test_everything_that_is_exported_exists() -> None:
    assert all(hasattr(traffic, name) for name in traffic.__all__)
    assert len(set(traffic.__all__)) == len(traffic.__all__)


def test_importing_traffic_does_not_import_the_heavy_libraries() -> None:
    heavy = "{'pandas', 'pyarrow', 'zstandard', 'simpy', 'ratesim'} & set(sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", f"import sys, traffic; print({heavy} or 'none')"],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
    )
    assert run.stdout == "none\n"


def test_traffic_imports_nothing_of_ratesim() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 10
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [m for m in modules if m.split(".")[0] == "ratesim"], file


def test_the_package_is_typed_and_carries_its_data_with_the_attribution() -> None:
    assert (PACKAGE / "py.typed").is_file()
    readme = (PACKAGE / "data" / "README.md").read_text()
    assert "elastic/examples" in readme
    assert "Apache-2.0" in readme
    assert (PACKAGE / "data" / "apache_access_10k.log.gz").stat().st_size == 225_894
    assert "Azure/AzurePublicDataset" in readme
    assert "CC-BY-4.0" in readme
    assert (PACKAGE / "data" / "azure_llm_code_500.csv.gz").stat().st_size == 4440
