"""What the tests of the broker share: a server of their own, empty for each test, and our transport in this process."""

from importlib import import_module

import pytest
from kombu import Connection

from tests.broker.server import Server
from worker.broker import transport
from worker.broker.claims import Claims


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def client(server):
    """A client of a server that holds nothing."""
    with server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def claims(client):
    return Claims(client)


@pytest.fixture
def registered(monkeypatch):
    """Our transport under kombu's names, for one test."""
    kombu_transport = import_module("kombu.transport")
    monkeypatch.setattr(kombu_transport, "TRANSPORT_ALIASES", dict(kombu_transport.TRANSPORT_ALIASES))
    monkeypatch.setattr(kombu_transport, "_transport_cache", {})
    monkeypatch.setattr(transport, "TRANSPORT_ALIASES", kombu_transport.TRANSPORT_ALIASES)
    monkeypatch.setattr(transport, "_transport_cache", kombu_transport._transport_cache)
    transport.register()


@pytest.fixture
def connect(server, client, registered):
    """Make connections that use our transport, closed at the end."""
    connections = []

    def connect(url=server.url, **options):
        connection = Connection(url, transport_options=options)
        connections.append(connection)
        return connection

    yield connect
    for connection in connections:
        connection.close()
