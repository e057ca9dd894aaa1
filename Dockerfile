# A worker or a gateway: the command says which.
FROM python:3.13-slim

WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY kitmsg kitmsg
COPY gateways gateways
RUN pip install --no-cache-dir ".[auth,breaker,cli,grpc,http,mcp,otel,prometheus,pydantic,thrift]"
COPY examples examples

RUN useradd --system --uid 10001 kitmsg
USER 10001

# Exec form: kitmsg is process 1 itself, so SIGTERM reaches it and it drains.
ENTRYPOINT ["kitmsg"]
CMD ["--help"]
