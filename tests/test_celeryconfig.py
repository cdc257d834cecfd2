"""Celery's settings: names that Celery knows, and what they amount to once Celery has read them."""

from types import ModuleType

import pytest
from celery import Celery
from celery.app.defaults import NAMESPACES, flatten

import celeryconfig

# Celery's manual, "Using Redis", asks for it beside the two transport options; no default of it is listed.
READ_BUT_UNLISTED = {"visibility_timeout"}


@pytest.fixture
def app() -> Celery:
    app = Celery(set_as_current=False)
    app.config_from_object(celeryconfig)
    return app


def settings() -> dict[str, object]:
    return {
        name: value
        for name, value in vars(celeryconfig).items()
        if name.islower() and not name.startswith("_") and not isinstance(value, ModuleType | type)
    }


def test_every_setting_is_one_that_celery_knows() -> None:
    known = {name for name, _ in flatten(NAMESPACES)} | READ_BUT_UNLISTED

    assert settings().keys() <= known


def test_no_setting_is_deprecated() -> None:
    deprecated = {name for name, option in flatten(NAMESPACES) if option.deprecate_by}

    assert not settings().keys() & deprecated


def test_both_queues_are_consumed_and_each_is_its_own_exchange(app: Celery) -> None:
    queues = {queue.name: (queue.exchange.name, queue.routing_key) for queue in app.amqp.queues.consume_from.values()}

    assert queues == {"commands": ("commands", "commands"), "upkeep": ("upkeep", "upkeep")}


@pytest.mark.parametrize(
    ("task", "queue"),
    [("transfers.post", "commands"), ("batch", "commands"), ("upkeep.verify", "upkeep")],
)
def test_a_task_goes_to_its_queue(app: Celery, task: str, queue: str) -> None:
    assert app.amqp.router.route({}, task)["queue"].name == queue


def test_only_json_is_read_and_written(app: Celery) -> None:
    assert app.conf.accept_content == app.conf.result_accept_content == ["json"]
    assert app.conf.task_serializer == app.conf.result_serializer == app.conf.event_serializer == "json"


def test_some_four_thousand_messages_are_outstanding(app: Celery) -> None:
    assert app.conf.worker_concurrency * app.conf.worker_prefetch_multiplier == 4_000


def test_one_visibility_timeout_is_stated_in_all_three_places(app: Celery) -> None:
    stated = {
        celeryconfig.visibility_timeout,
        app.conf.broker_transport_options["visibility_timeout"],
        app.conf.result_backend_transport_options["visibility_timeout"],
    }

    assert len(stated) == 1


def test_scheduled_work_travels_on_upkeep_and_expires() -> None:
    for entry in celeryconfig.beat_schedule.values():
        assert entry["task"].startswith("upkeep.")
        assert entry["options"]["queue"] == "upkeep"
        assert entry["options"]["expires"] > 0
