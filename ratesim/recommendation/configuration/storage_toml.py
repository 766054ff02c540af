"""storage.toml: the chosen configuration, written to be pasted, and read back to be checked.

[storage]
url = "redis://localhost"  # the only key that is required

[storage.options]  # as in the URL; an option that the URL lacks is added to it, one that contradicts it is an error

[deployment]
routing = "round_robin"
nodes = 8
primaries = 3  # of a Redis cluster, and replicas of each; or behind Sentinels
replicas = 1  # of PostgreSQL alone: standbys that answers wait for

[limit]
rate = "100/minute"
algorithm = "sliding_window"
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import parse_qsl, quote, urlencode

import tomli_w

from ratesim.documents import DocumentError, parse_toml, read_text
from ratesim.errors import ConfigurationError
from ratesim.recommendation.assess.topology import Topology, topology_of
from ratesim.recommendation.configuration.escaping import escape_unprintable, has_secret, redact_url, to_comment
from ratesim.safe_text import HIDDEN, SECRET_NAMES, redact, shorten_repr, shorten_text
from ratesim.storage import StorageURL
from ratesim.storage.partitions import parse_partition
from ratesim.storage.urls import named_options

if TYPE_CHECKING:
    from ratesim.recommendation.configuration.store_size import StoreSize
    from ratesim.simulation.scenario.scenario import LimitSpec, Scenario

__all__ = ["StorageConfiguration", "backend_of", "storage_toml"]

HOSTS: dict[Topology, str] = {
    "standalone": "The url: put your host there.",
    "sentinel": "The url: put the hosts of your Sentinels there, with commas between, and the name of the service.",
    "cluster": "The url: put some hosts of your cluster there, with commas between; the others are learnt from them.",
}


STANDBYS = (
    "The url: put the hosts of your primary and its standbys there, with commas between, and target_session_attrs="
    "read-write: then nodes find the one that takes writes."
)


@dataclass(frozen=True)
class StorageConfiguration:
    """The configuration in a storage.toml. A field that the file does not give is None.

    Attributes
    ----------
    storage
        The URL with all options, and *** in the place of a hidden password.
    primaries, replicas
        Servers of a Redis cluster, and replicas of each; or of a primary behind Sentinels. Of a PostgreSQL its standbys that
        answers wait for.
    """

    storage: str
    routing: str | None = None
    nodes: int | None = None
    limit: LimitSpec | None = None
    primaries: int | None = None
    replicas: int | None = None

    @classmethod
    def load(cls, path: str | Path) -> StorageConfiguration:
        """Read a file. Raises Config in one line that names the file and the key."""
        try:
            text = read_text(path)
        except DocumentError as error:
            raise ConfigurationError(f"{path}: {error}") from error
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, source: str = "storage.toml") -> StorageConfiguration:
        """Read TOML. Raises as `load` does."""
        try:
            data = parse_toml(text)
        except DocumentError as error:
            raise ConfigurationError(f"{source}: {error}") from error
        try:
            return _configured(data)
        except ConfigurationError as error:
            raise ConfigurationError(" ".join(f"{source}: {error}".split())) from error


def storage_toml(scenario: Scenario, storage: str, routing: str, title: str = "", size: StoreSize | None = None) -> str:
    """Write the configuration of a candidate for a scenario, without passwords.

    Parameters
    ----------
    scenario
        The scenario, which gives the limit and the number of nodes.
    storage
        The storage URL.
    routing
        The routing of the load balancer.
    title
        One sentence, which becomes a comment at the top.
    size
        How many servers there are, which a URL of a cluster or of Sentinels does not tell.
    """
    backend = backend_of(storage)
    hints = [] if backend == "memory" else [HOSTS[topology_of(storage)]]
    if size is not None and size.replicas and StorageURL.parse(storage).backend == "postgres":
        hints = [STANDBYS]
    if has_secret(storage):
        hints.append("The password belongs in the environment, not in this file.")
    options = named_options(storage)
    limit = scenario.limit.model_dump(include={"rate", "algorithm", "burst", "options"}, exclude_none=True)
    document = {
        "storage": {"url": redact_url(storage), "backend": backend} | ({"options": options} if options else {}),
        "deployment": {"routing": routing, "nodes": scenario.deployment.nodes} | _servers_of(storage, size),
        "limit": {key: value for key, value in limit.items() if value != {}},
    }
    return to_comment(" ".join((title, *hints))) + "\n" + escape_unprintable(tomli_w.dumps(document))


def backend_of(storage: str) -> str:
    """memory, redis, postgres or hybrid. Raises ConfigurationError."""
    url = StorageURL.parse(storage)
    return url.backend if url.hybrid is None else "hybrid"


# -- writing -----------------------------------------------------------------------------------------------------------


def _servers_of(storage: str, size: StoreSize | None) -> dict[str, int]:
    if size is not None and size.standby:
        return {"replicas": size.replicas}
    if size is None or topology_of(storage) not in ("cluster", "sentinel"):
        return {}
    return {"primaries": size.primaries, "replicas": size.replicas}


# -- reading -----------------------------------------------------------------------------------------------------------


def _configured(data: dict[str, Any]) -> StorageConfiguration:
    _known("", data, {"storage", "deployment", "limit"})
    storage = _table(data, "storage")
    if storage is None:
        raise ConfigurationError("storage: missing; write [storage] and below it url = with a storage URL in quotes")
    _known("storage.", storage, {"url", "backend", "options"})
    url = storage.get("url")
    if not isinstance(url, str):
        raise ConfigurationError("storage.url: must be a storage URL in quotes")
    url = _with_options(url, _table(storage, "options", "storage.") or {})
    try:
        backend = backend_of(url)
        redact_url(url)
    except ConfigurationError as error:
        raise ConfigurationError(f"storage.url: {error}") from error
    if storage.get("backend", backend) != backend:
        raise ConfigurationError(f"storage.backend: is {shorten_repr(storage['backend'])}, and the url is that of {backend}")
    deployment = _table(data, "deployment") or {}
    _known("deployment.", deployment, {"routing", "nodes", "primaries", "replicas"})
    for name in ("primaries", "replicas"):
        has_standbys = name == "replicas" and StorageURL.parse(url).backend == "postgres"
        if name in deployment and not has_standbys and topology_of(url) not in ("cluster", "sentinel"):
            raise ConfigurationError(f"deployment.{name}: is of a Redis cluster or Sentinels, and the url is neither")
    primaries, replicas = _whole(deployment, "primaries", 1, 1000), _whole(deployment, "replicas", 0, 100)
    if primaries is not None and primaries > 1 and topology_of(url) == "sentinel":
        raise ConfigurationError("deployment.primaries: Sentinels watch one; for several write the url of a cluster")
    nodes = _whole(deployment, "nodes", 1)
    return StorageConfiguration(url, _routing(deployment), nodes, _limit(_table(data, "limit")), primaries, replicas)


def _with_options(url: str, options: dict[str, Any]) -> str:
    """Add the options to the URL that it does not name itself."""
    named = dict(parse_qsl(url.partition("?")[2], keep_blank_values=True))
    more = {}
    for name, value in options.items():
        if not isinstance(value, str | int | float):
            raise ConfigurationError(f"storage.options.{shorten_text(name)}: must be a text, a number, true or false")
        text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else repr(value)
        if name not in named:
            more[name] = text
        elif not _same(name, named[name], text):
            one, other = (HIDDEN if name in SECRET_NAMES else shorten_repr(redact(each)) for each in (text, named[name]))
            raise ConfigurationError(
                f"storage.options.{shorten_text(name)}: is {one} here and {other} in the url; make them the same or drop one"
            )
    if not more:
        return url
    joint = "&" if "?" in url else "?"
    return f"{url}{joint}{urlencode(more, quote_via=quote, safe='/,:*')}"


def _same(name: str, one: str, other: str) -> bool:
    if one == other:
        return True
    if name == "partition":
        return parse_partition(one) == parse_partition(other)
    truths = {"1": "true", "yes": "true", "0": "false", "no": "false"}
    try:
        return float(one) == float(other)
    except ValueError:
        one, other = one.lower(), other.lower()
        return truths.get(one, one) == truths.get(other, other)


def _routing(deployment: dict[str, Any]) -> str | None:
    from ratesim.simulation.network.load_balancer import Routing

    routing = deployment.get("routing")
    known = get_args(Routing)
    if routing is not None and routing not in known:
        raise ConfigurationError(f"deployment.routing: is {shorten_repr(routing)}; known are {', '.join(known)}")
    return routing


def _whole(deployment: dict[str, Any], name: str, least: int, most: float = math.inf) -> int | None:
    value = deployment.get(name)
    if value is None:
        return None
    if type(value) is not int or value < least:
        raise ConfigurationError(f"deployment.{name}: must be a whole number, at least {least}")
    if value > most:
        raise ConfigurationError(f"deployment.{name}: must be at most {most:g}")
    return value


def _limit(table: dict[str, Any] | None) -> LimitSpec | None:
    if table is None:
        return None
    from pydantic import ValidationError

    from ratesim.simulation.scenario.scenario import LimitSpec

    _known("limit.", table, set(LimitSpec.model_fields))
    try:
        return LimitSpec.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("limit", *first["loc"])))
        what = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"{shorten_text(where)}: {shorten_text(what, 1000)}") from error


def _table(data: dict[str, Any], name: str, within: str = "") -> dict[str, Any] | None:
    table = data.get(name)
    if table is not None and not isinstance(table, dict):
        raise ConfigurationError(f"{within}{name}: must be a table, [{within}{name}]")
    return table


def _known(within: str, table: dict[str, Any], names: set[str]) -> None:
    for name in table:
        if name not in names:
            raise ConfigurationError(f"{within}{shorten_text(name)}: unknown key; known here: {', '.join(sorted(names))}")
