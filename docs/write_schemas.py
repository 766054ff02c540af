"""Writes the JSON Schemas of recommendation.json and of a scenario file, and the scenario file with every key.

python docs/write_schemas.py          writes them (`make docs`)
python docs/write_schemas.py --check  exits with 1 where one is stale (`make lint`)
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # also from a checkout that is not installed

from ratesim.recommendation.decide import json_schema as of_recommendation  # noqa: E402
from ratesim.simulation.scenario import json_schema as of_scenario  # noqa: E402
from ratesim.simulation.scenario.example import example  # noqa: E402

PAGES = {
    "recommendation.schema.json": of_recommendation.text,
    "scenario.schema.json": of_scenario.text,
    "scenario.toml": example,
}


def main() -> None:
    """Write the files, or with --check compare them."""
    for name, text in PAGES.items():
        page = ROOT / "docs" / name
        if "--check" not in sys.argv[1:]:
            page.write_text(text(), "utf-8")
        elif not page.is_file() or page.read_text("utf-8") != text():
            raise SystemExit(f"docs/{name} is stale: run `make docs`")


if __name__ == "__main__":
    main()
