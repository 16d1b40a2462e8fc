"""Certificates made for the tests, and pairs of TLS streams over anything."""

from __future__ import annotations

import ssl
from types import SimpleNamespace

import pytest
import trustme

import bateau
import bateau.ssl
from bateau.io import duplex

HOST = "boat.example"


@pytest.fixture(scope="session")
def ca():
    return trustme.CA()


@pytest.fixture(scope="session")
def contexts(ca):
    """`client` trusts our authority; `server` has a certificate for HOST."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(HOST).configure_cert(server)
    client = ssl.create_default_context()
    ca.configure_trust(client)
    return SimpleNamespace(client=client, server=server)


@pytest.fixture(params=["TLSv1_3", "TLSv1_2"])
def versions(request, ca):
    """Contexts held to one version of the protocol."""
    version = ssl.TLSVersion[request.param]
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(HOST).configure_cert(server)
    client = ssl.create_default_context()
    ca.configure_trust(client)
    server.minimum_version = server.maximum_version = version
    return SimpleNamespace(client=client, server=server)


@pytest.fixture
def tls(contexts):
    """`client, server = tls()`: over a duplex or the pair given, before the handshake."""

    def make(pair=None, contexts=contexts, **options):
        a, b = pair if pair is not None else duplex()
        client = bateau.ssl.wrap(a, contexts.client, server_hostname=HOST, **options)
        return client, bateau.ssl.wrap(b, contexts.server, server_side=True, **options)

    return make


@pytest.fixture
def shaken(tls):
    """`client, server = await shaken()`: the same, after the handshake."""

    async def make(pair=None, **options):
        client, server = tls(pair, **options)
        async with bateau.scope() as scope:
            scope.spawn(client.do_handshake)
            scope.spawn(server.do_handshake)
        return client, server

    return make
