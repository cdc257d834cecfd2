"""The transport: kombu's Redis transport, with messages claimed instead of popped.

Producers use kombu's own, in any process, and notice nothing; `register` puts this one in its place in the worker's
process. What is published here is published by kombu's code. What is different:

- Messages are claimed many at a time (`claims.py`), and acknowledged or restored by tag, also by other threads and also
  after the connection was lost: a tag means the same on every connection.
- Bytes that cannot be read are delivered like any message (`envelope.py`).
- There is no event loop: Celery's worker calls `drain_events` in its main thread, which waits (`doorbell.py`), hears
  remote control first, then claims as much as the prefetch count has room for.

What is claimed and not settled is restored when a channel is closed. When its connection was *lost* it is not: the
owner may be at work on it still. It acknowledges it later, or the claim runs out of time.
"""

import logging
import selectors
import socket
from collections import deque
from collections.abc import Callable, Iterable
from queue import Empty
from time import monotonic, sleep
from typing import Any, Literal, cast

import redis
from kombu import message as kombu_message
from kombu.transport import TRANSPORT_ALIASES, _transport_cache
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual as kombu_virtual
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, ConnectionPool
from redis.retry import Retry

from worker.broker.claims import MAX_CLAIM, RESTORE_CHUNK, Claim, Claims
from worker.broker.doorbell import Doorbell, Wake
from worker.broker.envelope import Envelope, Unreadable, open_envelope, read_envelope, uncompressed, understand

stock: Any = kombu_redis  # kombu says nothing of its types
virtual: Any = kombu_virtual
plain: Any = kombu_message

log = logging.getLogger(__name__)

LOST = (redis.ConnectionError, redis.TimeoutError)
"""What redis-py raises when the server is not there any more."""

LOOK_EVERY_S = 0.5
"""Seconds that `drain_events` waits at most before it looks at everything again, and a consumer that acknowledges
gets its thread back: so long may Celery's warm shutdown take to be noticed, and a message of a lower priority to be
found."""

DELIVER_FOR_S = 0.1
"""Seconds after which `drain_events` returns though there is more: the solo pool works while we deliver, and neither
remote control nor a shutdown should wait for a thousand of its tasks."""

REFUSED_PAUSE_S = 1.0
"""Seconds until a server that has refused a command is asked again: one line a second in the log, and no load."""

SOCKET_TIMEOUT_S = 10.0
"""Seconds to wait for a server that says nothing, where the option `socket_timeout` does not say. As Celery's own
bound on talking to a broker that may be gone."""


class Message(virtual.Message):
    """A message as kombu and Celery know it, with the very bytes that were claimed in `raw`."""

    def __init__(self, payload: Claim | Envelope, channel: "Channel | None" = None, **options: Any) -> None:
        envelope = understand(payload.raw) if isinstance(payload, Claim) else payload
        self.raw = payload.raw if isinstance(payload, Claim) else None
        plain.Message.__init__(
            self,
            body=envelope.body,
            channel=channel,
            delivery_tag=payload.tag if isinstance(payload, Claim) else None,
            content_type=envelope.content_type,
            content_encoding=envelope.content_encoding,
            headers=envelope.headers,
            properties=envelope.properties,
            delivery_info=envelope.properties.get("delivery_info"),
            **options,
        )


class QoS(virtual.QoS):
    """How much a channel may claim. kombu's interface to what the channel has claimed and not settled."""

    def append(self, message: Message, delivery_tag: str) -> None:
        """Do nothing: the message was recorded when it was claimed."""

    def can_consume(self) -> bool:
        return not self.prefetch_count or len(self.channel.outstanding) < self.prefetch_count

    def can_consume_max_estimate(self) -> int | None:
        return max(self.prefetch_count - len(self.channel.outstanding), 0) if self.prefetch_count else None

    def ack(self, delivery_tag: str | None) -> None:
        if delivery_tag is not None:  # that of a message which wants no acknowledgement
            self.channel.acknowledge([delivery_tag])

    def reject(self, delivery_tag: str | None, requeue: bool = False) -> None:
        """Drop the message, or put it behind all others: at the head it would come back at once, for ever."""
        if delivery_tag is not None and requeue:
            self.channel.restore([delivery_tag], at="tail")
        else:
            self.ack(delivery_tag)

    def restore_unacked(self) -> None:
        self.channel.restore(sorted(self.channel.outstanding))

    def restore_unacked_once(self, stderr: object = None) -> None:
        """Give back what is left, when the channel is closed or the process ends without having closed it."""
        self._on_collect.cancel()
        self.channel.give_back()


class Channel(stock.Channel):
    """A channel whose consumers claim. `acknowledge`, `restore`, `pause` and `resume` may be called by any thread."""

    Message = Message
    QoS = QoS

    claim_limit = 1_000
    claim_max_bytes = 4 * 1024 * 1024  # a dozen batches of 1,000: committing begins while the next ones are claimed
    claims_key = "unacked_claims"
    claims_index_key = "unacked_claims_index"
    unacked_restore_interval = 1.0
    unacked_restore_limit = RESTORE_CHUNK

    from_transport_options = (
        *(option for option in stock.Channel.from_transport_options if option != "ack_emulation"),
        "claim_limit",
        "claim_max_bytes",
        "claims_key",
        "claims_index_key",
    )

    _pool_of_claims: ConnectionPool | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Tags, and when their time is over by our clock. Each change is one call of one method, which is atomic.
        self.outstanding: dict[str, float] = {}
        self._undelivered: deque[Claim] = deque()
        self._unacknowledged: set[str] = set()  # queues whose consumers want no acknowledgement
        self._doorbells: dict[str, Doorbell] = {}
        self._paused = False
        # Made now, since a lost connection takes its parameters with it, while tags are acknowledged later all the
        # same.
        self._pool_of_claims = ConnectionPool(**self._claims_connparams())
        prefix = self.global_keyprefix
        client = redis.Redis(connection_pool=self._pool_of_claims)
        self.claims = Claims(client, prefix + self.claims_key, prefix + self.claims_index_key)

    # For the owner of the messages, in whatever thread.

    def acknowledge(self, tags: Iterable[str]) -> int:
        """Forget messages, in one round trip; return how many were still claimed. Their room is free at once.

        May be repeated after an error, and long after the connection was lost.
        """
        tags = list(tags)
        try:
            return self.claims.acknowledge(tags)
        finally:
            self._settled(tags)

    def restore(self, tags: Iterable[str], at: Literal["head", "tail"] = "head") -> int:
        """Put messages back as they were, to be claimed next or last; return how many were still claimed."""
        tags = list(tags)
        try:
            return self.claims.restore(tags, at)
        finally:
            self._settled(tags)

    def pause(self) -> None:
        """Claim nothing until `resume`. What was claimed is still delivered, and remote control still heard."""
        self._paused = True

    def resume(self) -> None:
        """Claim again, at once."""
        self._paused = False
        self._wake()

    def _settled(self, tags: Iterable[str]) -> None:
        """Free the room of these, even if the server did not hear of it: they come back under tags of their own."""
        for tag in tags:
            self.outstanding.pop(tag, None)
        self._wake()

    def _record(self, claims: Iterable[Claim]) -> None:
        over_at = monotonic() + self.visibility_timeout
        self.outstanding.update({claim.tag: over_at for claim in claims})

    def forget_overdue(self) -> None:
        """Free the room of what nobody settled in its time: it has gone back, and comes under a tag of its own."""
        now = monotonic()
        overdue = [tag for tag, over_at in tuple(self.outstanding.items()) if over_at <= now]
        if overdue:
            self._settled(overdue)

    def _wake(self) -> None:
        transport = self.connection  # which `close` may clear between two looks
        if transport is not None:
            transport.wake()

    # For the transport, in the thread that drains.

    def hear(self) -> bool:
        """Deliver what was published for this channel: remote control. True if there was anything."""
        if not self.active_fanout_queues:
            return False
        self._listen_for_fanout()
        try:
            return bool(self.subclient.connection.can_read(timeout=0) and self._receive())
        except Empty:
            return False

    def take(self, until: float) -> bool:
        """Claim if there is room, and deliver until a point in time. True if there was anything."""
        delivered = self._take_unacknowledged()
        if not self._undelivered:
            self._claim()
        while self._undelivered:
            claim = self._undelivered.popleft()
            if (queue := self._queue_of(claim.key)) in self.connection._callbacks:
                self.connection._deliver(claim, queue)
            else:  # cancelled in the meantime
                self.restore([claim.tag])
            delivered = True
            if monotonic() > until:
                break
        return delivered

    def ears(self) -> Iterable[tuple[socket.socket, Callable[[], object]]]:
        """Give each socket that something may arrive on, with what to do then to be able to wait again."""
        if self.active_fanout_queues:
            self._listen_for_fanout()
            yield self.subclient.connection._sock, _nothing
        waits_for = self.claimed_queues if self._room() and not self._undelivered else []
        for queue in [*waits_for, *self._unacknowledged]:
            doorbell = self._doorbell(queue)
            if not doorbell.silent:
                yield doorbell.listen(), doorbell.answer

    @property
    def claimed_queues(self) -> list[str]:
        """The queues whose messages are acknowledged."""
        return [queue for queue in self.active_queues if queue not in self._unacknowledged]

    def _room(self) -> int:
        if self._paused or not self.qos.can_consume():
            return 0
        if "can_consume" in vars(self.qos):
            return 1  # Celery's worker_disable_prefetch has replaced it, and wants to be asked for each message
        estimate = self.qos.can_consume_max_estimate()
        return min(self.claim_limit, MAX_CLAIM) if estimate is None else min(estimate, self.claim_limit, MAX_CLAIM)

    def _claim(self) -> None:
        room = self._room()
        if not room or not (claimed := self.claimed_queues):
            return
        queues = [queue for queue in self._queue_cycle.consume(len(self.active_queues)) if queue in claimed]
        claims = self.claims.claim(self._keys_of(queues), room, self.claim_max_bytes, self.visibility_timeout)
        if claims:
            self._record(claims)
            self._undelivered.extend(claims)
            self._queue_cycle.rotate(self._queue_of(claims[-1].key))

    def _take_unacknowledged(self) -> bool:
        """Deliver at most one message a queue: its consumers count the calls of `drain_events`."""
        delivered = False
        for queue in tuple(self._unacknowledged):
            try:
                self.connection._deliver(self._get(queue), queue)
            except Empty:
                continue
            delivered = True
        return delivered

    def _doorbell(self, queue: str) -> Doorbell:
        if queue not in self._doorbells:
            pool = cast(ConnectionPool, self._pool_of_claims)
            connection = cast(AbstractConnection, pool.connection_class(**pool.connection_kwargs))
            self._doorbells[queue] = Doorbell(connection, self.global_keyprefix + queue)
        return self._doorbells[queue]

    def _listen_for_fanout(self) -> None:
        if self.subclient.connection is None:
            self.subclient.connection = self.subclient.connection_pool.get_connection()
        if not self._in_listen:
            self._subscribe()

    def _keys_of(self, queues: Iterable[str]) -> list[str]:
        queues = list(queues)
        return [
            self.global_keyprefix + self._q_for_pri(queue, step) for step in self.priority_steps for queue in queues
        ]

    def _queue_of(self, key: str) -> str:
        return key.removeprefix(self.global_keyprefix).rsplit(self.sep, 1)[0]

    # kombu's own methods, where claiming makes a difference.

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> None:
        if queue not in self._fanout_queues:
            self.claims.require_server()
            if no_ack:
                self._unacknowledged.add(queue)
        super().basic_consume(queue, no_ack, *args, **kwargs)

    def _basic_cancel(self, consumer_tag: str) -> None:
        queue = self._tag_to_queue.get(consumer_tag)
        super()._basic_cancel(consumer_tag)
        if queue not in self._active_queues:
            self._unacknowledged.discard(queue)
            if doorbell := self._doorbells.pop(queue, None):
                doorbell.close()

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> "virtual.Message | None":
        if no_ack:
            return super().basic_get(queue, no_ack=True)
        claims = self.claims.claim(self._keys_of([queue]), 1, self.claim_max_bytes, self.visibility_timeout)
        self._record(claims)
        return Message(claims[0], channel=self) if claims else None

    def _get(self, queue: str) -> Envelope:
        """Pop a message that wants no acknowledgement: an answer to remote control. What cannot be read is none."""
        with self.conn_or_acquire() as client:
            for key in (self._q_for_pri(queue, step) for step in self.priority_steps):
                while raw := client.rpop(key):
                    try:
                        return uncompressed(open_envelope(raw))
                    except Unreadable as error:
                        log.warning("Dropped from %s, where nothing is acknowledged: %s: %r", queue, error, raw[:200])
        raise Empty

    def _deliver_fanout_message(self, message: object, exchange: str) -> bool:
        try:
            envelope = uncompressed(read_envelope(message))
        except Unreadable as error:
            log.warning("Not heard, on %s: %s: %.200r", exchange, error, message)
            return False
        return bool(super()._deliver_fanout_message(envelope, exchange))

    def close(self) -> None:
        """Close, giving back what is outstanding. Never raises because the server is gone."""
        if self.closed:
            return
        if self.connection.lost:
            self.auto_delete_queues.clear()  # a question for the server
        try:
            self.give_back()
            super().close()
        except LOST as error:
            log.warning("The broker was gone when a channel was closed: %s", error)
            self.connection.lost = True
            self.auto_delete_queues.clear()
            super().close()

    def give_back(self) -> None:
        """Restore what is outstanding, unless the connection was lost: the deadlines of the claims see to it then."""
        tags, self.outstanding = sorted(self.outstanding), {}
        self._undelivered.clear()
        if not tags:
            return
        if self.connection is not None and self.connection.lost:
            log.info("%d messages stay claimed until they are acknowledged or their time is over", len(tags))
            return
        try:
            log.info("Gave back %d of %d messages", self.claims.restore(tags), len(tags))
        except LOST as error:
            log.warning("Could not give back %d messages, they return in their time: %s", len(tags), error)

    def _disconnect_pools(self) -> None:
        super()._disconnect_pools()
        if self._pool_of_claims is not None:
            for doorbell in self._doorbells.values():
                doorbell.close()
            self._doorbells.clear()
            self._pool_of_claims.disconnect(inuse_connections=False)

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        if self.connection is None or self.connection.client is None:
            # Celery 5.7.0 uses channels of a connection that it has closed, and knows what to do about this error only.
            raise redis.ConnectionError("the connection of this channel is closed")
        return cast(dict[str, Any], super()._connparams(asynchronous))

    def _claims_connparams(self) -> dict[str, Any]:
        params = self._connparams()
        params["socket_timeout"] = params.get("socket_timeout") or SOCKET_TIMEOUT_S
        # A claim must be sent once (see `Claims`), and no number of users may keep an acknowledgement waiting.
        params.update(retry=Retry(NoBackoff(), 0), retry_on_timeout=False, retry_on_error=[], max_connections=None)
        return params


class Cycle:
    """The channels of a transport. It stands where kombu has its poller."""

    _in_protected_read = False  # kombu puts a cancellation off while it reads; ours may come at any time

    def __init__(self) -> None:
        self.channels: list[Channel] = []

    def add(self, channel: Channel) -> None:
        self.channels.append(channel)

    def discard(self, channel: Channel) -> None:
        if channel in self.channels:
            self.channels.remove(channel)

    def close(self) -> None:
        self.channels.clear()

    def _on_connection_disconnect(self, connection: object) -> None:
        """Do nothing: a channel asks for its sockets anew whenever it waits."""


class Transport(stock.Transport):
    """The transport that Celery's worker gets. `wake` may be called by any thread."""

    Channel = Channel

    implements = stock.Transport.implements.extend(asynchronous=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = Cycle()
        self.lost = False
        self._wake = Wake()
        self._restore_at = 0.0

    def wake(self) -> None:
        """End the wait of the thread that drains."""
        self._wake.ring()

    def drain_events(self, connection: object, timeout: float | None = None) -> None:
        """Deliver what there is, or wait for it; raise `TimeoutError` (`socket.timeout`) when nothing came.

        Where messages are acknowledged, it raises after `LOOK_EVERY_S` even if the timeout is longer.
        """
        started = monotonic()
        claims = any(channel.claimed_queues for channel in self.cycle.channels)
        patience = min(LOOK_EVERY_S if claims else float("inf"), float("inf") if timeout is None else timeout)
        try:
            while not self._turn():
                remaining = started + patience - monotonic()
                if remaining <= 0:
                    raise TimeoutError
                self._wait(min(remaining, LOOK_EVERY_S))
        except redis.exceptions.ReadOnlyError as error:
            # A primary that has become a replica: the new one is found by connecting anew.
            self.lost = True
            raise redis.ConnectionError(str(error)) from error
        except redis.ResponseError as error:
            # Something is wrong with the server or its keys, and a person must mend it. Messages wait, and so do we.
            log.error("ALARM: the broker refuses, and is asked again in %g s: %s", REFUSED_PAUSE_S, error)
            sleep(REFUSED_PAUSE_S)
            raise TimeoutError from error
        except LOST:
            self.lost = True
            raise

    def _turn(self) -> bool:
        """Look at everything once; true if anything was delivered."""
        self._restore_overdue()
        channels = tuple(self.cycle.channels)
        heard = [channel.hear() for channel in channels if not channel.closed]
        until = monotonic() + DELIVER_FOR_S
        taken = [channel.take(until) for channel in channels if not channel.closed]
        return any(heard) or any(taken)

    def _wait(self, timeout_s: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake.listen(), selectors.EVENT_READ, self._wake.answer)
            for channel in self.cycle.channels:
                for ear, answer in channel.ears():
                    selector.register(ear, selectors.EVENT_READ, answer)
            for key, _ in selector.select(timeout_s):
                key.data()

    def _restore_overdue(self) -> None:
        """Put back what anybody claimed and did not settle in time. Once for all channels: claims belong to none."""
        channel = next((channel for channel in self.cycle.channels if channel.claimed_queues), None)
        if channel is not None and monotonic() >= self._restore_at:
            restored = channel.claims.restore_overdue(channel.unacked_restore_limit)
            self._restore_at = monotonic() + (0 if restored else channel.unacked_restore_interval)
            for each in self.cycle.channels:
                each.forget_overdue()

    def establish_connection(self) -> object:
        self.lost = False
        return super().establish_connection()

    def close_connection(self, connection: object) -> None:
        super().close_connection(connection)
        self._wake.close()

    def _collect(self, connection: object) -> None:
        """Let go of a connection without a word to the server: kombu's way out after a loss, and after a fork."""
        self.lost = True
        self.close_connection(connection)


def register() -> None:
    """Make the URLs `redis://`, `rediss://` and `redis+socket://` mean this transport, in this process.

    Sentinel is left to kombu: nothing is claimed there.
    """
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{Transport.__module__}:{Transport.__qualname__}"
        _transport_cache.pop(scheme, None)


def _nothing() -> None:
    """Leave what arrived where it is: the next look at everything reads it."""
