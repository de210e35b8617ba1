# A model, mounted read-only, behind HTTP:
#
#   docker build -t verydeep .
#   docker run --rm -p 127.0.0.1:8000:8000 --read-only --tmpfs /tmp --cap-drop ALL \
#     -v "$PWD/runs/mine/best.safetensors:/model/net.safetensors:ro" -e VERYDEEP_TOKEN="$(openssl rand -hex 32)" verydeep
#
# constraints.txt holds the versions that were tested. Where the package index has torch for CUDA alone, several GB,
# --build-arg PIP_EXTRA_INDEX_URL=URL names one that has it for CPUs.
FROM python:3.11-slim AS build
ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/verydeep
WORKDIR /source
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY verydeep verydeep
RUN /opt/verydeep/bin/pip install --constraint constraints.txt '.[serve,fast,heic]'

FROM python:3.11-slim
COPY --from=build /opt/verydeep /opt/verydeep
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin verydeep
USER 10001
ENV PATH=/opt/verydeep/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /tmp
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["verydeep", "serve"]
CMD ["/model/net.safetensors", "--host", "0.0.0.0"]
