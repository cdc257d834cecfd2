"""Celery's settings, each with its reason.

Read by `worker.app` (config_from_object) and so by worker, beat and Flower alike. It imports nothing of ours: classes
and modules stand here as strings. It is not the place for settings of our own, which are in `worker.settings`. Where a
reason names a measurement, it was made with Celery 5.7.0 and Redis on two cores.
"""

import os

from celery.schedules import crontab

# -- Where messages come from ------------------------------------------------------------------------------------------

# None where the environment names none: worker.app then fills in the embedded stack's address.
broker_url = os.environ.get("EQUIPOISE_BROKER_URL")
result_backend = os.environ.get("EQUIPOISE_RESULT_URL")

# Stock kombu takes a message and records it as unacknowledged in two steps: 27 lost in 81 kills. Ours claims in one.
broker_transport = "worker.broker.transport:Transport"

# What cannot be read makes the stock consumer exit, and the message returns to kill the next worker. Ours files it.
worker_consumer = "worker.intake.consumer:Consumer"

# A delivery not acknowledged within this time is delivered again. It is stamped once and never refreshed, and the
# shortest of all programs on one Redis wins. A group commits in milliseconds, so a minute is long; tests set seconds.
visibility_timeout = float(os.environ.get("EQUIPOISE_VISIBILITY_TIMEOUT_S", "60"))

broker_transport_options = {
    "visibility_timeout": visibility_timeout,
    "unacked_restore_interval": 1,  # the sweep runs each second, not each ten seconds …
    "unacked_restore_throttle": 1,  # … and each run of it counts, not each tenth: 7.8 s to redelivery, against 92.6 s
    "socket_keepalive": True,  # a peer that vanished without a word is noticed by the kernel …
    "health_check_interval": 10,  # … and one that hangs, by a ping before a connection idle for 10 s is used again
    "socket_connect_timeout": 5,  # in place of minutes of TCP retries; Celery then tries again by itself
}

# Stated for the result backend too, since the shortest timeout wins wherever it is read.
# A result is a courtesy: three attempts within two seconds, then it is counted as failed and the message acknowledged.
result_backend_transport_options = {
    "visibility_timeout": visibility_timeout,
    "retry_policy": {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5},
}
redis_socket_connect_timeout = 5  # as for the broker
redis_socket_timeout = 5  # 120 by default: the answers of a whole group would wait behind one dead connection

# Redis may be away when a worker starts, and may come back an hour later: the worker waits for it, for ever.
broker_connection_retry_on_startup = True
broker_connection_max_retries = None

# -- What a message may be ---------------------------------------------------------------------------------------------

# JSON only. Pickle runs what it reads, and YAML has more ways to say a number than there are ways to check one.
accept_content = ["json"]
task_serializer = "json"
result_serializer = "json"
result_accept_content = ["json"]
event_serializer = "json"

# -- Queues ------------------------------------------------------------------------------------------------------------

# Commands and scheduled work apart: neither waits behind the other, and each can have workers of its own (-Q).
task_default_queue = "commands"
task_queues = {
    "commands": {"exchange": "commands", "routing_key": "commands"},
    "upkeep": {"exchange": "upkeep", "routing_key": "upkeep"},
}
task_routes = {"upkeep.*": {"queue": "upkeep"}}

# A command's callback goes to a queue of its sender's, which this configuration cannot know.
task_create_missing_queues = True

# -- Acknowledging -----------------------------------------------------------------------------------------------------

# After the commit, never before: what a killed worker held is delivered again, and the inbox knows what was decided.
task_acks_late = True
# A lost child is a delivery to repeat as well; by default it is acknowledged.
task_reject_on_worker_lost = True
# By default acks_late still acknowledges what raised or ran out of time. A task of ours answers what it can name and
# raises only what nobody foresaw, which is not done.
task_acks_on_failure = False
task_acks_on_timeout = False

# -- How much at once --------------------------------------------------------------------------------------------------

# Prefork would fork after connections exist and pay for a pipe a message; commands are decided by one thread anyway.
# Two threads serve the scheduled tasks, so that one long `verify` does not keep the next task waiting.
worker_pool = "threads"
worker_concurrency = 2

# The transport's credit is concurrency x multiplier: 4,000 messages outstanding. A group is what arrived while the last
# commit was in flight: at 15,000 messages a second that is some hundreds, and the next ones are claimed meanwhile.
worker_prefetch_multiplier = 2_000

# After a reconnect Celery would lower the credit and raise it one message at a time. With the threads pool that can
# deadlock (6 of 8 runs, on RabbitMQ); without it 5 of 5 went well.
worker_enable_prefetch_count_reduction = False

# When the broker is lost, what was claimed is left to commit: its redelivery gets the outcome from the inbox. Threads
# cannot be cancelled, and a cancelled COMMIT would be in doubt.
worker_cancel_long_running_tasks_on_connection_loss = False

# -- Time --------------------------------------------------------------------------------------------------------------

# For the scheduled tasks under a pool of processes. Threads ignore both limits: there PostgreSQL's statement and
# transaction timeouts serve, which hold in every pool.
task_soft_time_limit = 240
task_time_limit = 300

# What a cold shutdown (SIGQUIT, or a second SIGINT) leaves a group in flight to commit. Well under the 60 s that
# docker-compose.yml grants before SIGKILL.
worker_soft_shutdown_timeout = 10

timezone = "UTC"
enable_utc = True

# -- Results and events ------------------------------------------------------------------------------------------------

# The inbox keeps every outcome for ever; a result is a copy for a sender that asked (ignore_result=False) and waits for
# it now. An hour is longer than anybody waits, and Redis is not filled with copies.
task_ignore_result = True
result_expires = 3_600
# `started` would be a write a message, and says nothing: a group is decided as a whole.
task_track_started = False

# Events cost 45 % of the rate. They are off until somebody watches: Flower switches the workers' on by itself, as
# `worker -E` does.
worker_send_task_events = False
task_send_sent_event = False

# -- Tasks and their schedule ------------------------------------------------------------------------------------------

# As strings, so that app and tasks never import each other.
imports = ("tasks.commands", "tasks.upkeep")

beat_schedule = {
    "expire overdue holds": {
        "task": "upkeep.expire_holds",
        # Whoever touches an account expires its holds exactly; this is for accounts that nobody touches.
        "schedule": 10.0,
        "options": {"queue": "upkeep", "expires": 10},
    },
    "seal what the books are": {
        "task": "upkeep.checkpoint",
        # What a forger may still write anew is what no checkpoint has seen. One reads accounts alone, no transfers.
        "schedule": crontab(minute="*/10"),
        "options": {"queue": "upkeep", "expires": 600},
    },
    "prove the books every hour": {
        "task": "upkeep.verify",
        # By the clock, not by an interval: beat restarts without its schedule file and still knows when it is due.
        "schedule": crontab(minute=0),
        # When no worker was there for an hour, one run is enough.
        "options": {"queue": "upkeep", "expires": 3_600},
    },
}
# So that `celery inspect ping` reaches beat, too: its health check. It answers only while its scheduler ticks.
beat_enable_remote_control = True
