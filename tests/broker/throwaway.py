"""A Celery application to try our transport in a real worker with stock tasks, which write down that they ran."""

import os

from celery import Celery

from worker.broker.transport import register

register()

app = Celery("throwaway", broker=os.environ["THROWAWAY_BROKER"], set_as_current=False)
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 5},
    task_acks_late=True,
    task_default_queue="commands",
    task_ignore_result=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_prefetch_multiplier=8,
)


@app.task(name="throwaway.note")
def note(name):
    """Append a name to the file."""
    file = os.open(os.environ["THROWAWAY_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{name}\n".encode())
    os.close(file)
