"""A consumer to be killed: writes the ids of what it gets to a file, then acknowledges; reconnects when it must.

`python -m tests.broker.consume URL FILE`
"""

import os
import sys

from kombu import Connection, Exchange, Queue

from worker.broker.transport import LOST, register

VISIBILITY_TIMEOUT_S = 1
PREFETCH = 20


def consume(connection: Connection, file: int) -> None:
    """Work until the connection is lost."""
    group = []
    channel = connection.default_channel
    channel.basic_qos(0, PREFETCH, False)
    queue = Queue("commands", Exchange(""), "commands")
    with connection.Consumer([queue], on_message=group.append, auto_declare=False):
        while True:
            try:
                connection.drain_events(timeout=1)
            except TimeoutError:
                continue
            os.write(file, b"".join(message.headers["id"].encode() + b"\n" for message in group))
            channel.acknowledge([message.delivery_tag for message in group])
            group.clear()


def main(url: str, path: str) -> None:
    register()
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    connection = Connection(url, transport_options={"visibility_timeout": VISIBILITY_TIMEOUT_S})
    while True:
        try:
            connection.ensure_connection(interval_start=0.1, interval_step=0)
            consume(connection, file)
        except LOST:
            connection.collect()


if __name__ == "__main__":
    main(*sys.argv[1:])
