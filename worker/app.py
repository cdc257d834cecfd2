"""The Celery application: settings from `celeryconfig`, addresses from the environment or the embedded stack.

`celery --app worker.app worker` starts a worker. Tasks are named in the settings as strings, so that the app
and the tasks never import each other.
"""

from celery import Celery

from worker.broker import transport
from worker.settings import Settings, urls

transport.register()

app = Celery("equipoise")
app.config_from_object("celeryconfig")

_urls = urls(Settings())
app.conf.broker_url = _urls.broker_url
app.conf.result_backend = _urls.result_url
