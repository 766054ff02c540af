"""`rediss://`, alone, on a cluster and behind sentinels, and `unix://` against real servers."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from tls_proxy import Certificates, forwarder, make_certificates, tls_proxies, tls_proxy

from ratesim import Limit
from ratesim.errors import ConfigurationError, StorageConnectionError
from ratesim.server_url import split_url
from ratesim.servers import Server
from ratesim.storage import Request, open_storage

LIMIT = Limit(5, 60)
PATIENT = [("connection_timeout", "60"), ("command_timeout", "60")]  # of a busy machine


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def url_of(server: Server, scheme: str, port: int, **options: object) -> str:
    parts = split_url(server.url)._replace(host=f"localhost:{port}")
    return parts.text(scheme, [("retries", "0"), *PATIENT, *((name, str(value)) for name, value in options.items())])


@pytest.mark.parametrize("scheme", ["rediss", "valkeys", "hybrid+rediss"])
async def test_tls_with_an_authority_of_ones_own(valkey_server: Server, files: Certificates, scheme: str) -> None:
    async with (
        tls_proxy(valkey_server.url, files) as port,
        open_storage(url_of(valkey_server, scheme, port, ssl_ca_certs=files.authority)) as storage,
    ):
        assert (await storage.acquire(f"tls {scheme}", LIMIT)).remaining == 4


async def test_tls_with_a_certificate_of_the_client(valkey_server: Server, files: Certificates) -> None:
    own = {"ssl_ca_certs": files.authority, "ssl_certfile": files.client, "ssl_keyfile": files.client_key}
    async with tls_proxy(valkey_server.url, files, client_needed=True) as port:
        async with open_storage(url_of(valkey_server, "rediss", port, **own)) as storage:
            assert await storage.acquire("tls client", LIMIT)
        async with open_storage(url_of(valkey_server, "rediss", port, ssl_ca_certs=files.authority)) as storage:
            with pytest.raises(StorageConnectionError):
                await storage.acquire("tls stranger", LIMIT)


async def test_an_unknown_authority_is_refused_and_said_so(valkey_server: Server, files: Certificates) -> None:
    async with tls_proxy(valkey_server.url, files) as port:
        async with open_storage(url_of(valkey_server, "rediss", port)) as storage:
            with pytest.raises(StorageConnectionError, match=r"CERTIFICATE_VERIFY_FAILED.*certificates"):
                await storage.acquire("tls", LIMIT)
        async with open_storage(url_of(valkey_server, "rediss", port, ssl_cert_reqs="none")) as storage:
            assert await storage.acquire("tls unchecked", LIMIT)


async def test_the_name_of_the_host_is_checked_unless_it_is_said_not_to_be(
    valkey_server: Server, files: Certificates
) -> None:
    async with tls_proxy(valkey_server.url, files) as port:
        there = url_of(valkey_server, "rediss", port, ssl_ca_certs=files.authority).replace("localhost", "127.0.0.1")
        async with open_storage(there) as storage:
            with pytest.raises(StorageConnectionError, match=r"CERTIFICATE_VERIFY_FAILED.*certificates"):
                await storage.acquire("tls host", LIMIT)
        async with open_storage(f"{there}&ssl_check_hostname=false") as storage:
            assert await storage.acquire("tls other host", LIMIT)


@pytest.mark.parametrize("kind", ["cluster", "sentinel"])
async def test_every_member_is_reached_by_tls(request: pytest.FixtureRequest, files: Certificates, kind: str) -> None:
    server: Server = request.getfixturevalue(f"valkey_{kind}_server")
    async with tls_proxies(server, files) as url:
        url += f"{'&' if '?' in url else '?'}retries=0&" + "&".join(f"{name}={value}" for name, value in PATIENT)
        async with open_storage(f"{url}&ssl_ca_certs={files.authority}&ssl_check_hostname=false") as storage:
            decisions = await storage.acquire_many([Request(f"tls {kind} {place}", LIMIT) for place in range(30)])
            assert [decision.remaining for decision in decisions] == [4] * 30
        async with open_storage(f"{url}&ssl_ca_certs={files.authority}") as storage:  # certificates of localhost
            with pytest.raises(StorageConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
                await storage.acquire("tls host", LIMIT)


async def test_a_cluster_takes_a_folder_of_authorities(
    valkey_cluster_server: Server, files: Certificates, tmp_path: Path
) -> None:
    command = ["openssl", "x509", "-hash", "-noout", "-in", str(files.authority)]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: ASYNC221
    (tmp_path / f"{name}.0").write_bytes(files.authority.read_bytes())
    async with tls_proxies(valkey_cluster_server, files) as url:
        url += f"?ssl_ca_path={quote(str(tmp_path))}&ssl_check_hostname=false&ssl_password=unused&retries=0"
        url += "".join(f"&{name}={value}" for name, value in PATIENT)
        async with open_storage(url) as storage:
            decisions = await storage.acquire_many([Request(f"tls folder {place}", LIMIT) for place in range(30)])
            assert [decision.remaining for decision in decisions] == [4] * 30


@pytest.mark.parametrize("name", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
async def test_a_certificate_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{name} '/no/such\.pem'"):
        open_storage(f"rediss://h/0?{name}=/no/such.pem")


@pytest.mark.parametrize("scheme", ["unix", "redis+unix", "hybrid+unix"])
async def test_a_socket_is_a_server_like_any_other(valkey_server: Server, tmp_path: Path, scheme: str) -> None:
    path, parts = tmp_path / "a b.sock", split_url(valkey_server.url)
    credentials = "" if parts.password is None else f":{quote(parts.password, safe='')}@"
    async with await asyncio.start_unix_server(forwarder(valkey_server.url), path):
        async with open_storage(f"{scheme}://{credentials}{quote(str(path))}?db=3&command_timeout=60") as storage:
            assert (await storage.acquire(f"socket {scheme}", LIMIT)).remaining == 4
        async with open_storage(parts._replace(path="/3").text("redis", PATIENT)) as storage:
            assert (await storage.peek(f"socket {scheme}", LIMIT)).remaining == 4  # it was database 3
