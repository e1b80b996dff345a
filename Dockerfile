# The worker, the producers and the simulator in one image. It runs the worker unless told otherwise.

FROM python:3.13-slim AS build
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
# Dependencies first: this layer is rebuilt only when the lock changes. All of them have wheels, nothing is compiled.
COPY requirements.txt .
RUN pip install --only-binary :all: --no-deps --require-hashes -r requirements.txt && pip check
COPY pyproject.toml README.md LICENSE ./
COPY jobs jobs
COPY worker worker
COPY simulator simulator
COPY replicate_batch replicate_batch
RUN pip install --no-deps --no-build-isolation .

FROM python:3.13-slim
RUN useradd --uid 1000 --create-home app \
    && install --directory --owner app --group app /app /app/outputs
COPY --from=build /venv /venv
COPY demo /app/demo
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /app
USER app
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s CMD ["python", "-m", "worker", "check"]
CMD ["arq", "worker.Settings"]
