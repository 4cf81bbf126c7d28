# syntax=docker/dockerfile:1
# The desk in an image: hashed locks only, no compiler in what runs, and an ordinary user.
ARG PYTHON=python:3.11-slim-bookworm

# Everything that is installed is made into wheels here, each checked against its hash, our own among them
FROM ${PYTHON} AS wheels
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY requirements-build.lock requirements.lock requirements-sources.lock ./
RUN python -m venv /tools \
 && /tools/bin/pip install --quiet --require-hashes -r requirements-build.lock
ARG LOCK=requirements-sources.lock
RUN /tools/bin/pip wheel --quiet --require-hashes --no-build-isolation --wheel-dir /wheels -r "$LOCK"
COPY pyproject.toml README.md settings.ini ./
COPY migrations migrations
COPY templates templates
COPY nbs nbs
COPY mlt_lib mlt_lib
RUN /tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels . \
 && python -m venv --without-pip /opt/mlt \
 && /tools/bin/uv pip install --quiet --python /opt/mlt/bin/python --offline --no-index --no-deps --compile-bytecode /wheels/*.whl

FROM ${PYTHON} AS desk
# LightGBM's wheel wants OpenMP of the system. Its version is the base image's to choose.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 desk \
 && useradd --uid 10001 --gid desk --no-log-init --home-dir /desk --shell /usr/sbin/nologin desk \
 && install -d -o desk -g desk /desk
COPY --from=wheels /opt/mlt /opt/mlt
COPY --chmod=0555 deploy/container/start.sh /usr/local/bin/start
# A volume at /desk starts with these and keeps what the desk adds: .mlt (state) and reports
COPY --chown=desk:desk settings.ini /desk/
COPY --chown=desk:desk nbs /desk/nbs
ENV PATH=/opt/mlt/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    IPYTHONDIR=/tmp/ipython \
    JUPYTER_DATA_DIR=/tmp/jupyter \
    JUPYTER_RUNTIME_DIR=/tmp/jupyter/runtime \
    NUMBA_CACHE_DIR=/tmp/numba
WORKDIR /desk
USER 10001:10001
VOLUME /desk
HEALTHCHECK --interval=5m --timeout=60s --start-period=60s --retries=3 CMD ["start", "mlt", "doctor"]
ENTRYPOINT ["start"]
CMD ["mlt", "daily"]
