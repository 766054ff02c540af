"""Unit prices, in one small TOML file that its reader edits. The one that ships is an example, and says so.

Unknown keys are errors that name the key. A GB is 1e9 bytes.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import tomli_w
from pydantic import BaseModel, Field, ValidationError, field_validator

from ratesim.documents import DocumentError, parse_toml, read_text
from ratesim.errors import RatesimError
from ratesim.safe_text import shorten_repr, shorten_text
from ratesim.simulation.network.links import PRESETS
from ratesim.simulation.scenario.fields import StrictModel

__all__ = [
    "GB",
    "ApiNode",
    "ManagedPostgres",
    "ManagedRedis",
    "PostgresServer",
    "PriceError",
    "Prices",
    "RedisServer",
    "Replicas",
    "Sentinel",
    "Server",
]

GB = 1e9  # bytes

Money = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Size = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Most = Annotated[float, Field(gt=0, le=1)]


class PriceError(RatesimError, ValueError):
    """Prices that cannot be used: one line that names the file or the key, and the remedy."""


class ApiNode(StrictModel):
    """The price of a processor, and of a GB of memory, of an API node in an hour."""

    processor_hour: Money
    memory_gb_hour: Money


class Server(StrictModel):
    """One server of a store: its size, its price, and how far it may be filled.

    Attributes
    ----------
    processors, memory_gb
        That are paid for.
    processor_hour, memory_gb_hour
        Price of an hour of one.
    most_processor
        The share of the deciding processors that may be busy.
    most_memory
        The share of the memory that keys may take.
    """

    processors: Size
    memory_gb: Size
    processor_hour: Money
    memory_gb_hour: Money
    most_processor: Most
    most_memory: Most

    @property
    def deciding(self) -> float:
        """Processors that decisions can use."""
        return self.processors

    @property
    def room(self) -> float:
        """Bytes that keys may take."""
        return self.memory_gb * GB * self.most_memory

    def month(self, hours: float) -> float:
        """Return the price of so many hours."""
        return hours * (self.processors * self.processor_hour + self.memory_gb * self.memory_gb_hour)


class RedisServer(Server):
    """A Redis server. It runs commands one after the other on one thread, whatever else its machine has.

    https://redis.io/docs/latest/operate/oss_and_stack/management/optimization/latency/, "Single threaded nature of Redis".
    """

    @property
    def deciding(self) -> float:
        """Processors that decisions can use: one at most."""
        return min(self.processors, 1.0)


class Sentinel(StrictModel):
    """The small machine on which one Sentinel runs; three of them watch a primary and its replicas.

    Attributes
    ----------
    processors, memory_gb
        That are paid for.
    processor_hour, memory_gb_hour
        Price of an hour of one.
    """

    processors: Size
    memory_gb: Size
    processor_hour: Money
    memory_gb_hour: Money

    def month(self, hours: float) -> float:
        """Return the price of so many hours."""
        return hours * (self.processors * self.processor_hour + self.memory_gb * self.memory_gb_hour)


class ManagedRedis(StrictModel):
    """A managed service with nodes of the size of a `RedisServer`; it fails over by itself, so it takes no Sentinels.

    Attributes
    ----------
    node_hour
        Price of an hour of one node, primary or replica.
    """

    node_hour: Money


class ManagedPostgres(StrictModel):
    """A managed service with servers of the size of a `PostgresServer`, which replaces a lost one by its standby.

    Attributes
    ----------
    node_hour
        Price of an hour of one server, primary or standby.
    disk_gb_month
        Price of a GB of its disk in a month.
    """

    node_hour: Money
    disk_gb_month: Money


class PostgresServer(Server):
    """A server with a process for each connection.

    Its tables must fit into memory, as they did when it was measured, and onto its disk, which has the log besides.
    """

    disk_gb: Size
    disk_gb_month: Money

    @property
    def room(self) -> float:
        """Bytes that keys may take, in memory and on the disk."""
        return min(super().room, self.disk_gb * GB)

    def month(self, hours: float) -> float:
        """Return the price of so many hours, with the disk."""
        return super().month(hours) + self.disk_gb * self.disk_gb_month


class Replicas(StrictModel):
    """Replicas of each server, by the type of the deployment."""

    single_instance: int = Field(ge=0, le=100)
    clustered: int = Field(ge=0, le=100)
    high_availability: int = Field(ge=0, le=100)


class Prices(StrictModel):
    """All unit prices, in `currency`.

    Attributes
    ----------
    currency
        Such as USD.
    date
        The day of which the prices are.
    hours_per_month
        By which hourly prices are multiplied.
    over_admitted_request
        What one request costs that should have been denied.
    api_node, redis, postgres, replicas
        The machines.
    sentinel
        The machine of one Sentinel; without it Sentinels cost nothing.
    managed_redis, managed_postgres
        The same nodes as a managed service, whose price stands beside that of the machines; None where it is not asked for.
    network
        Price of a GB between a node and the store, either way, by the presets of `ratesim.simulation.network.links`.
    """

    currency: str = Field(min_length=1, max_length=40)
    date: datetime.date
    hours_per_month: float = Field(gt=0, le=744)
    over_admitted_request: Money = 0.0
    api_node: ApiNode
    redis: RedisServer
    postgres: PostgresServer
    replicas: Replicas
    sentinel: Sentinel | None = None
    managed_redis: ManagedRedis | None = None
    managed_postgres: ManagedPostgres | None = None
    network: dict[str, Money]

    @field_validator("currency")
    @classmethod
    def _prints(cls, currency: str) -> str:
        if not currency.isprintable():
            raise ValueError("has a character that cannot be printed; write such as USD")
        return currency

    @field_validator("network")
    @classmethod
    def _names_every_preset(cls, network: dict[str, float]) -> dict[str, float]:
        for name in network:
            if name not in PRESETS:
                raise ValueError(f"{shorten_repr(name)} is no network; known are {', '.join(PRESETS)}")
        missing = [name for name in PRESETS if name not in network]
        if missing:
            raise ValueError(f"{', '.join(missing)} missing; 0 where a GB costs nothing")
        return network

    def server(self, backend: Literal["redis", "postgres"]) -> Server:
        """Return the server of this kind."""
        return self.redis if backend == "redis" else self.postgres

    def to_toml(self) -> str:
        """Write a TOML document that `Prices.parse` reads back into the same prices."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))

    @property
    def month(self) -> float:
        """Seconds in a month."""
        return self.hours_per_month * 3600.0

    @classmethod
    def load(cls, path: Path | str | None = None) -> Self:
        """Read the prices in a TOML file; without one the example that ships with ratesim. Raises PriceError."""
        if path is None:
            shipped = resources.files("ratesim.recommendation.assess") / "example_prices.toml"
            return cls.parse(shipped.read_text("utf-8"), "the example")
        try:
            text = read_text(path)
        except DocumentError as error:
            raise PriceError(f"prices {path}: {error}") from error
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, source: str = "prices") -> Self:
        """Read TOML. Raises PriceError, naming the key that is wrong."""
        try:
            return cls.model_validate(parse_toml(text))
        except DocumentError as error:
            raise PriceError(f"prices {source}: {error}") from error
        except ValidationError as error:
            # A misspelt key is an unknown one and a missing one, and the first says more.
            first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
            where = ".".join(map(str, first["loc"])) or "the whole"
            what = first["msg"].removeprefix("Value error, ")
            if first["type"] == "extra_forbidden":
                what = f"unknown key; known here: {', '.join(_known(cls, first['loc'][:-1]))}"
            raise PriceError(f"prices {source}: {shorten_text(where)}: {shorten_text(what, 1000)}") from error


def _known(model: type[BaseModel], loc: Sequence[Any]) -> list[str]:
    for step in loc:
        inner = model.model_fields[step].annotation
        inner = next((each for each in get_args(inner) if each is not type(None)), inner)  # of an optional table
        assert isinstance(inner, type)
        assert issubclass(inner, BaseModel)
        model = inner
    return list(model.model_fields)
