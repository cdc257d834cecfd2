"""The deployment's files, as far as they can be judged without an engine: what would be started, with which rights.

That the images start is not shown here.
"""

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# What keeps running; `migrate` ends, and its exit status is its health.
LASTING = sorted(SERVICES.keys() - {"migrate"})
OURS = ["migrate", "worker", "beat", "flower"]

each_service = pytest.mark.parametrize("name", SERVICES)
each_script = pytest.mark.parametrize("script", ["bin/equipoise", "bin/make-environment", ".ci/run"])


def dockerfile() -> list[str]:
    """Give the instructions of the last stage, a line each."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return re.split(r"^FROM ", text, flags=re.MULTILINE)[-1].splitlines()


def test_the_services_are_those_of_the_design() -> None:
    assert SERVICES.keys() == {"postgres", "redis", "migrate", "worker", "beat", "flower"}


@each_service
def test_a_service_runs_as_an_ordinary_user(name: str) -> None:
    user, group = SERVICES[name]["user"].split(":")

    assert int(user) > 0
    assert int(group) > 0


@each_service
def test_a_service_can_neither_write_its_image_nor_gain_rights(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert "no-new-privileges:true" in service["security_opt"]
    assert "/tmp" in service["tmpfs"]


@each_service
def test_a_service_has_limits_and_time_to_end(name: str) -> None:
    service = SERVICES[name]

    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert service["stop_grace_period"] == "60s"
    assert service["logging"]["options"].keys() >= {"max-size", "max-file"}


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_service_tells_its_health_and_is_started_again(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


@each_service
def test_only_this_machine_reaches_a_published_port(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_no_secret_stands_in_the_file_and_none_may_be_missing() -> None:
    text = (ROOT / "docker-compose.yml").read_text()

    required = set(re.findall(r"\$\{(\w+):\?", text))

    assert required == {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "FLOWER_USER", "FLOWER_PASSWORD"}
    assert required <= set(re.findall(r"^(\w+)=$", (ROOT / ".env.example").read_text(), flags=re.MULTILINE))
    # Compose interpolates $NAME itself; what is meant for a container's shell has two dollar signs.
    assert not re.search(r"(?<!\$)\$(?![{$])", text)


@each_service
def test_no_secret_is_among_the_arguments_of_a_process(name: str) -> None:
    assert "${" not in str(SERVICES[name].get("command", ""))


def test_flower_asks_who_is_there() -> None:
    assert SERVICES["flower"]["environment"]["FLOWER_BASIC_AUTH"].startswith("${FLOWER_USER:?")


def test_flower_is_without_the_known_hole() -> None:
    [flower] = PROJECT["dependency-groups"]["watch"]

    assert Requirement(flower).specifier.contains("2.2.0")
    assert not Requirement(flower).specifier.contains("2.1.0")


@pytest.mark.parametrize(
    "line",
    ["appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction", "requirepass $$REDIS_PASSWORD"],
)
def test_redis_keeps_what_it_was_given_and_asks_for_a_password(line: str) -> None:
    configuration = SERVICES["redis"]["command"][-1].splitlines()

    assert line in configuration


def test_redis_has_room_for_the_copy_that_a_rewrite_makes() -> None:
    assert "maxmemory 1gb" in SERVICES["redis"]["command"][-1]
    assert SERVICES["redis"]["deploy"]["resources"]["limits"]["memory"] == "2g"


@pytest.mark.parametrize("setting", ["max_pred_locks_per_transaction=256", "max_prepared_transactions=1000"])
def test_postgres_has_room_for_serializable(setting: str) -> None:
    assert setting in SERVICES["postgres"]["command"]


@pytest.mark.parametrize(
    ("name", "volume", "folder"),
    [
        ("postgres", "postgres", "/var/lib/postgresql"),
        ("redis", "redis", "/data"),
        ("worker", "checkpoints", "/var/lib/equipoise"),
    ],
)
def test_data_outlives_its_container(name: str, volume: str, folder: str) -> None:
    [mounted] = SERVICES[name]["volumes"]

    assert mounted == f"{volume}:{folder}"
    assert volume in COMPOSE["volumes"]


def test_checkpoints_are_written_where_they_outlive_the_worker() -> None:
    file = Path(SERVICES["worker"]["environment"]["EQUIPOISE_CHECKPOINT_FILE"])

    assert str(file.parent) == "/var/lib/equipoise"


@pytest.mark.parametrize("name", ["worker", "beat", "flower"])
def test_nothing_starts_before_the_schema_is_there(name: str) -> None:
    assert {other: it["condition"] for other, it in SERVICES[name]["depends_on"].items()} == {
        "postgres": "service_healthy",
        "redis": "service_healthy",
        "migrate": "service_completed_successfully",
    }


def test_ours_share_one_image_and_its_user() -> None:
    assert {(SERVICES[name]["image"], SERVICES[name]["user"]) for name in OURS} == {("equipoise:0.1.0", "10001:10001")}
    assert "USER 10001:10001" in dockerfile()
    assert PROJECT["project"]["version"] == "0.1.0"


def test_the_image_holds_only_what_was_checked_and_named() -> None:
    text = (ROOT / "Dockerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()

    assert "--require-hashes" in text
    assert "--no-index" in text
    assert not re.search(r"apt-get|build-essential|gcc|--extra-index|://", text)
    assert next(line for line in ignored if not line.startswith("#")) == "*"
    assert not {"!.env", "!.git", "!tests"} & set(ignored)


def test_the_image_can_tell_its_health_and_ends_by_sigterm() -> None:
    instructions = {line.split()[0] for line in dockerfile() if line and not line.startswith((" ", "#"))}

    assert {"HEALTHCHECK", "STOPSIGNAL", "USER", "CMD"} <= instructions


def test_what_is_installed_is_pinned_hashed_and_tied_to_no_registry() -> None:
    text = (ROOT / "constraints.txt").read_text()
    pins = re.findall(
        r"^([\w.-]+)==\S+ .*?\\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, flags=re.MULTILINE
    )

    assert len(pins) == len(re.findall(r"^[^\s#]", text, flags=re.MULTILINE)) > 0
    assert "://" not in text
    assert not re.search(r"^\s*-(?!-hash=)", text, flags=re.MULTILINE)


def test_every_dependency_is_pinned_within_its_bounds() -> None:
    text = (ROOT / "constraints.txt").read_text()
    pinned = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, flags=re.MULTILINE))
    groups = PROJECT["dependency-groups"].values()
    asked = [Requirement(it) for it in PROJECT["project"]["dependencies"]]
    asked += [Requirement(it) for group in groups for it in group if isinstance(it, str)]

    assert all(it.specifier.contains(pinned[it.name]) for it in asked)


@each_script
def test_a_script_is_executable_and_parses(script: str) -> None:
    path = ROOT / script
    shell = path.read_text().splitlines()[0].removeprefix("#!")

    assert os.access(path, os.X_OK)
    subprocess.run([shell, "-n", path], check=True)


def test_the_launcher_keeps_the_caller_s_folder_and_runs_our_worker(tmp_path: Path) -> None:
    """A stand-in for Python prints what it was given; the launcher is called by a link, from elsewhere."""
    root = tmp_path / "a project"
    here = tmp_path / "a caller"
    (root / "bin").mkdir(parents=True)
    (root / ".venv" / "bin").mkdir(parents=True)
    here.mkdir()
    launcher = root / "bin" / "equipoise"
    launcher.write_bytes((ROOT / "bin" / "equipoise").read_bytes())
    launcher.chmod(0o755)
    python = root / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$PWD" "$PYTHONPATH" "$@"\n')
    python.chmod(0o755)
    (here / "equipoise").symlink_to(launcher)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    said = subprocess.run(
        ["./equipoise", "send", "my file"], cwd=here, env=environment, check=True, capture_output=True, text=True
    )

    assert said.stdout.splitlines() == [str(here), str(root), "-P", "-m", "worker.cli", "send", "my file"]


def test_the_launcher_says_what_to_do_where_there_is_no_environment(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    launcher = tmp_path / "bin" / "equipoise"
    launcher.write_bytes((ROOT / "bin" / "equipoise").read_bytes())
    launcher.chmod(0o755)

    said = subprocess.run([launcher], check=False, capture_output=True, text=True)

    assert said.returncode == 69
    assert "make install" in said.stderr
    assert not said.stdout
