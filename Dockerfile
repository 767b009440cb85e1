# A scanner in a container: docker build -t overactivation .
# With CUDA: docker build --build-arg EXTRA=gpu -t overactivation:cuda . (run it with --gpus all)
# docker run --rm --network none -v "$PWD:/work:ro" overactivation model.onnx
FROM python:3.12-slim AS build
ARG EXTRA=cpu
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY overactivation overactivation
COPY scanner scanner
COPY trainers trainers
RUN python -m venv /opt/overactivation \
    && /opt/overactivation/bin/pip install --no-cache-dir -c constraints.txt ".[${EXTRA}]"

FROM python:3.12-slim
COPY --from=build /opt/overactivation /opt/overactivation
RUN useradd --create-home --uid 1000 scan
USER scan
WORKDIR /work
ENTRYPOINT ["/opt/overactivation/bin/scan"]
CMD ["--help"]
