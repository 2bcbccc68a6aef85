# The gateway, the workers and the migration: one image, three commands. Build it from the root of the checkout:
#   docker build -f deploy/gateway.Dockerfile -t gateway .
FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

COPY deploy/gateway.lock.txt /
RUN ["python", "-m", "pip", "install", "--no-cache-dir", "--only-binary", ":all:", "--require-hashes", "-r", "/gateway.lock.txt"]

# New volumes mounted here get this owner. A bucket needs no volume.
RUN ["install", "-d", "-o", "10001", "-g", "10001", "/files", "/models"]

WORKDIR /opt/gateway
COPY pyproject.toml ./
COPY schema ./schema
COPY gateway ./gateway
COPY web ./web
# pip has compiled its packages. The filesystem is read-only later, so compile the rest now.
RUN ["python", "-m", "compileall", "-q", "gateway"]

# A number, because Kubernetes can't verify that a name isn't root's.
USER 10001:10001
ENV GATEWAY_HOST=0.0.0.0 \
    GATEWAY_FILES_URL=/files \
    GATEWAY_MODELS_FOLDER=/models
EXPOSE 5000

# For the gateway. A worker needs `python -m gateway.probe worker`, and the migration needs none.
HEALTHCHECK --interval=10s --timeout=10s --start-period=30s CMD ["python", "-m", "gateway.probe"]

CMD ["python", "-m", "gateway"]
