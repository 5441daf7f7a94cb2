# pgweir as an image: compiled in one stage, run in another that has neither compiler nor sources.
#
#   docker build -t pgweir .
#   docker run -p 6432:6432 -p 9127:9127 -e DATABASE_URL=postgresql://app:secret@db/app pgweir
#   docker run -p 6432:6432 -p 9127:9127 -v ./pgweir.yaml:/etc/pgweir/pgweir.yaml:ro \
#       pgweir -c /etc/pgweir/pgweir.yaml
#
# docs/docker.md has the rest.

ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# Python's headers are in the image, in /usr/local/include. Versions follow its Debian.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml setup.py machine.py MANIFEST.in README.md CHANGELOG.md LICENSE ./
COPY proxy proxy
# Optional parts that need nothing of Debian's: oauth, pam.
ARG EXTRAS=
RUN pip wheel --no-cache-dir --wheel-dir /wheels ".${EXTRAS:+[$EXTRAS]}" \
    && python -m venv /opt/pgweir \
    && /opt/pgweir/bin/pip install --no-cache-dir --no-index --find-links /wheels "pgweir${EXTRAS:+[$EXTRAS]}" \
    && /opt/pgweir/bin/pip uninstall --yes pip

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="pgweir" \
      org.opencontainers.image.description="A PostgreSQL proxy" \
      org.opencontainers.image.licenses="Apache-2.0"
# A number, so that an orchestrator can see that it is not root's.
RUN groupadd --system --gid 6432 pgweir \
    && useradd --system --uid 6432 --gid 6432 --no-create-home --shell /usr/sbin/nologin pgweir \
    && install --directory --mode 755 /etc/pgweir
COPY --from=build /opt/pgweir /opt/pgweir
ENV PATH=/opt/pgweir/bin:$PATH
WORKDIR /etc/pgweir
USER 6432:6432
EXPOSE 6432 9127
# Serving at all is what this asks. Whether a primary is reachable is /readyz: restarting the proxy
# would not bring one back.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:9127/healthz', timeout=2)"]
# The flags win over a file's listen and http: whoever publishes the ports need not know the file.
ENTRYPOINT ["pgweir", "run", "--listen", "0.0.0.0:6432", "--http", "0.0.0.0:9127"]
