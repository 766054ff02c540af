"""What an administrator of a storage needs: `schema`."""

from __future__ import annotations

from typing import Annotated

import typer

from ratesim.cli.app import app
from ratesim.cli.options import UsageError


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
    """Print the SQL that creates all tables and functions of a PostgreSQL storage; nothing is connected to.

    ratesim schema 'postgresql://host/db?table_name=limits' --role app | psql 'postgresql://admin@host/db'

    A storage that finds them needs no right to create. Run the script of a new version before the new version is deployed.
    """
    from ratesim.storage import StorageURL
    from ratesim.storage.postgres import PostgresDriver

    parsed = StorageURL.parse(url)
    if parsed.backend != "postgres":
        raise UsageError(
            f"URL of {parsed.backend}: only PostgreSQL has a schema; give a URL of postgresql:// or hybrid+postgresql://"
        )
    print(PostgresDriver(parsed.config).schema(tuple(algorithm or ()), role), end="")
