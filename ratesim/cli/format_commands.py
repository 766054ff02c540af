"""What can be read: `formats`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ratesim.cli.app import app
from ratesim.safe_text import shorten_text

WIDTH = 160  # characters of an example that are shown
WRAPPED = (
    "docker json-file, CRI (Kubernetes), kubectl logs --prefix, stern, docker compose, syslog, journald, CloudWatch, "
    "Heroku, Loki, fluentd"
)
CONTAINED = "gz, zst, bz2, xz, lz4, snappy, zip, tar; UTF-8, UTF-16 and latin-1; files, globs, directories, pipes and -"


@app.command()
def formats(as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False) -> None:
    """List the log formats, who writes each, and an example line.

    ratesim formats

    A log is recognized by its first lines; `--format NAME` says what it is. Any other log of nginx or Apache is read with
    the line of the configuration that wrote it:

    ratesim report --log access.log --log-format '$remote_addr [$time_local] "$request" $status' --limit 100/minute --out out
    """
    from traffic.formats import FORMATS

    if as_json:
        rows = [
            {"name": each.name, "title": each.title, "example": each.example, "source": each.source}
            for each in FORMATS.values()
        ]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for each in FORMATS.values():
        print(f"{each.name:<18}{each.title}")
        for line in each.example.splitlines():
            print(f"    {shorten_text(line, WIDTH)}")
    print(f"\nTaken off each line: {WRAPPED}.")
    print(f"Unpacked: {CONTAINED}.")
    print("Also read: parquet of any columns, and what `ratesim trace convert` writes.")
    print(
        "Any other: --log-format '<the log_format of nginx, or the LogFormat of Apache>', or --log-format @nginx.conf:main."
    )
