# A Faust worker over Danube topics, built from the root of the repository:
#   docker build -f deploy/docker/streams.Dockerfile .
# Apps are modules in /apps; the example is there. Nothing of the platform's services is in it.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY requirements/run.txt requirements/faust.txt requirements/
RUN python -m venv --without-pip /opt/danube \
    && python -m pip --python /opt/danube/bin/python install \
        --no-cache-dir --disable-pip-version-check --require-hashes \
        -r requirements/run.txt -r requirements/faust.txt
COPY VERSION ./
COPY proto proto
COPY libs/client libs/client
COPY libs/faust libs/faust
RUN python -m pip --python /opt/danube/bin/python install \
        --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation \
        ./proto ./libs/client ./libs/faust

FROM ${PYTHON_IMAGE}
RUN groupadd --system --gid 10001 danube \
    && useradd --system --uid 10001 --gid danube --no-create-home --shell /usr/sbin/nologin danube
COPY --from=build /opt/danube /opt/danube
COPY libs/faust/examples /apps
ENV PATH=/opt/danube/bin:${PATH} PYTHONPATH=/apps PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /tmp
EXPOSE 6066
HEALTHCHECK --interval=10s --timeout=5s --retries=3 --start-period=90s --start-interval=1s \
    CMD ["python", "-I", "-S", "-c", "import socket; socket.create_connection(('127.0.0.1', 6066), 4).close()"]
ENTRYPOINT ["faust"]
