"""Requests through proxies, by httpx's own connections: they know HTTP proxies, tunnels and SOCKS."""

from __future__ import annotations

import asyncio
import ssl

import httpx
from socksio import SOCKSError

from jobs.network import Network
from jobs.replicate_api.transport import Transport


class ProxyTransport(httpx.AsyncBaseTransport):
    """Sends a request through the proxy that the environment names for its URL, or directly."""

    def __init__(self, network: Network, connections: int, tls: ssl.SSLContext) -> None:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._network, self._direct = network, Transport(connections, tls)
        self._proxies = {
            url: httpx.AsyncHTTPTransport(verify=tls, limits=limits, proxy=_proxy(url, tls))
            for url in set(network.proxies.values())
        }

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return the answer's head; ProxyError: the proxy let nothing through."""
        url = request.url
        proxy = self._network.proxy_for(url.scheme, url.host, url.port)
        if proxy is None:
            return await self._direct.handle_async_request(request)
        try:
            return await self._proxies[proxy].handle_async_request(request)
        except SOCKSError as error:  # httpcore lets it pass
            raise httpx.ProxyError(f"the proxy does not speak SOCKS 5 ({error})") from error

    async def aclose(self) -> None:
        """Close all connections."""
        await asyncio.gather(self._direct.aclose(), *(proxy.aclose() for proxy in self._proxies.values()))


def _proxy(url: str, tls: ssl.SSLContext) -> httpx.Proxy:
    return httpx.Proxy(url, ssl_context=tls if url.startswith("https:") else None)
