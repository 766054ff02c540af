"""A TLS endpoint before a plain server, or before each of its members, with a certificate of its own."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ratesim.server_url import split_url
from ratesim.servers import Server

__all__ = ["Certificates", "forwarder", "make_certificates", "tls_proxies", "tls_proxy"]


@dataclass(frozen=True)
class Certificates:
    """Files of an authority, and of a server and a client that it signed."""

    authority: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def make_certificates(folder: Path) -> Certificates:
    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=authority")
    for name, names in (("server", "subjectAltName=DNS:localhost"), ("client", "subjectAltName=DNS:client")):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / f"{name}.ext").write_text(names)
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)
    return Certificates(*(folder / name for name in ("ca.pem", "server.pem", "server.key", "client.pem", "client.key")))


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def forwarder(url: str, ports: Mapping[bytes, bytes] | None = None) -> Serve:
    """What a server does with a connection whose bytes go to the server at a URL and back; it may name other ports."""
    host, _, port = split_url(url).host.partition(":")

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ports: Mapping[bytes, bytes]) -> None:
        try:
            while data := await reader.read(1 << 16):
                while ports and not data.endswith(b"\r\n"):  # the end of an answer: no port is cut in two
                    data += await reader.read(1 << 16)
                for mine, theirs in ports.items():
                    data = data.replace(mine, theirs)
                writer.write(data)
                await writer.drain()
        except OSError:  # the other side is gone
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        plain_reader, plain_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(copy(reader, plain_writer, {}), copy(plain_reader, writer, ports or {}))

    return serve


@asynccontextmanager
async def tls_proxy(
    url: str, files: Certificates, *, client_needed: bool = False, ports: Mapping[bytes, bytes] | None = None
) -> AsyncIterator[int]:
    """Forward what comes in by TLS to the server at a URL; yields the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(files.authority))
    context.load_cert_chain(files.server, files.server_key)
    context.verify_mode = ssl.CERT_REQUIRED if client_needed else ssl.CERT_NONE
    async with await asyncio.start_server(forwarder(url, ports), "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def tls_proxies(server: Server, files: Certificates) -> AsyncIterator[str]:
    """Put an endpoint before each member, and name the endpoints wherever the members name each other; yields the URL."""
    ports: dict[bytes, bytes] = {}
    url = server.url
    async with AsyncExitStack() as stack:
        for member in server.members:
            port = await stack.enter_async_context(tls_proxy(member.url, files, ports=ports))
            assert len(str(port)) == len(str(member.port))
            ports[str(member.port).encode()] = str(port).encode()
            url = url.replace(f":{member.port}", f":{port}")
        yield url.replace("redis+", "rediss+", 1)
