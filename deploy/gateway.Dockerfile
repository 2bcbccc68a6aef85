# The gateway, the workers and the migration: one image, three commands. From the root of the checkout:
#   docker build -f deploy/gateway.Dockerfile -t gateway .
FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

COPY requirements-gateway.txt /
RUN ["python", "-m", "pip", "install", "--no-cache-dir", "--only-binary", ":all:", "-r", "/requirements-gateway.txt"]

# A volume that is mounted here for the first time gets this owner; a bucket needs no volume.
RUN ["install", "-d", "-o", "10001", "-g", "10001", "/files"]

WORKDIR /opt/gateway
COPY pyproject.toml ./
COPY schema ./schema
COPY gateway ./gateway
# pip has compiled what it installed. Nothing may be written here later, so the rest is compiled now.
RUN ["python", "-m", "compileall", "-q", "gateway"]

# A number, not a name: Kubernetes can't tell of a name that it is not root's.
USER 10001:10001
ENV GATEWAY_HOST=0.0.0.0 \
    GATEWAY_FILES_URL=/files
EXPOSE 5000

# The gateway's own; a worker is asked by `python -m gateway.probe worker`, and the migration ends by itself.
HEALTHCHECK --interval=10s --timeout=10s --start-period=30s CMD ["python", "-m", "gateway.probe"]

CMD ["python", "-m", "gateway"]
