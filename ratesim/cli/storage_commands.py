"""What an administrator of a PostgreSQL storage needs: `schema` and `repartition`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from ratesim.cli.app import app, bar
from ratesim.cli.options import UsageError

if TYPE_CHECKING:
    from ratesim.storage import PostgresStorageConfig


@app.command()
def schema(
    url: Annotated[str, typer.Argument(metavar="URL", help="Of the storage, as the application opens it.")],
    algorithm: Annotated[
        list[str] | None, typer.Option("--algorithm", metavar="NAME", help="Only for limits of these; may be repeated.")
    ] = None,
    role: Annotated[
        str, typer.Option("--role", metavar="NAME", help="Give this role the rights that the application needs.")
    ] = "",
) -> None:
    """Print the SQL that creates or migrates all tables and functions of a PostgreSQL storage; nothing is connected to.

    ratesim schema 'postgresql://host/db?table_name=limits' --role app | psql 'postgresql://admin@host/db'

    A storage that finds them needs no right to create. Run the script of a new version before the new version is deployed;
    it may be run again. The URL has the partition= of the table, if it is cut: the script refuses another one.
    """
    from ratesim.storage.postgres import PostgresDriver

    print(PostgresDriver(_config_of(url)).schema(tuple(algorithm or ()), role), end="")


@app.command()
def repartition(
    url: Annotated[str, typer.Argument(metavar="URL", help="Of the storage, with the new strategy as partition=.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")] = False,
) -> None:
    """Convert the tables of a PostgreSQL storage to another partition strategy, while nodes decide.

    ratesim repartition 'postgresql://owner@host/db?table_name=limits&partition=hash:16'

    The strategies are none, hash:N, time:1d and identifier:PREFIX*,PREFIX* (docs/postgres.md, "Partitions"). New tables are
    filled beside the old ones and take their names at the end, for which decisions wait some milliseconds; the disk needs
    room for both. Grants, owner, storage parameters and views follow. An interrupted conversion changes nothing, and starts
    over when it is run again. The role must own the tables, and may need CREATE on their schema.
    """
    from ratesim.server_url import split_url
    from ratesim.storage.postgres.repartition import repartition as convert

    config = _config_of(url)
    if "partition" not in dict(split_url(url.strip().removeprefix("hybrid+")).options):
        raise UsageError("URL: names no strategy to convert to; add partition=none, hash:16, time:1d or identifier:PREFIX*")
    with bar() as tell:
        report = asyncio.run(convert(config, tell, dry_run))
    print(report)


def _config_of(url: str) -> PostgresStorageConfig:
    from ratesim.storage import StorageURL

    parsed = StorageURL.parse(url)
    if parsed.backend != "postgres":
        raise UsageError(
            f"URL of {parsed.backend}: only PostgreSQL has a schema; give a URL of postgresql:// or hybrid+postgresql://"
        )
    config: PostgresStorageConfig = parsed.config
    return config
