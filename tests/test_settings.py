"""Settings that cannot be used are refused by name, and what they hold is told to nobody."""

import pytest
from pydantic import ValidationError

from worker.cli.endings import Status, told
from worker.settings import Settings


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("broker_url", "redis://:s3cr3t/pw@h:6379/0"),
        ("broker_url", "s3cr3t"),
        ("broker_url", "amqp://a:s3cr3t@h"),
        ("result_url", "redis://:s3cr3t/pw@h:6379/0"),
        ("database_url", "postgresql://app:pw@db:s3cr3t/x"),
    ],
)
def test_a_url_that_cannot_be_used_is_told_by_its_name_and_never_shown(
    name: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"EQUIPOISE_{name.upper()}", url)

    with pytest.raises(ValidationError) as refused:
        Settings()

    status, line = told(refused.value)
    assert status is Status.CONFIGURATION
    assert line.startswith(f"EQUIPOISE_{name.upper()}: ")
    assert "s3cr3t" not in line


@pytest.mark.parametrize(
    "url", ["redis://h", "rediss://:p%2Fw@h:1/0", "redis+socket:///tmp/s?virtual_host=1", "redis://a:1;redis://b:2"]
)
def test_every_form_of_a_brokers_address_is_taken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_BROKER_URL", url)

    assert Settings().broker_url == url
