# What `compose-test` checks of each file that is added to docker-compose.yml. Sourced, never run.
# shellcheck shell=bash

# The job takes longer than a worker waits for it (25 s): it is a command in a directory of its own.
a_stopped_worker_releases_its_job() {
  local job
  create_commands
  CRUNCH_COMMANDS=$directory/commands start --build
  wait_until has_task long
  job=$(request --header 'Content-Type: application/json' --data null "$url/tasks/long/jobs" | jq -r .id)
  wait_until has_status "$job" running
  quietly compose stop worker
  has_status "$job" queued
  request "$url/jobs/$job/attempts" | jq -e '[.items[].outcome] == ["released"]' >/dev/null
  quietly compose start worker
  ended_job "$job" | jq -e '.status == "succeeded" and .attempt == 1' >/dev/null
}

create_commands() {
  mkdir -p "$directory/commands"
  cat >"$directory/commands/tasks.toml" <<'END'
[[task]]
name = "long"
command = ["sh", "-c", "sleep 40 && echo true"]
timeout = "5m"
END
  cat >"$directory/commands/Dockerfile" <<'END'
FROM crunch-worker AS worker
COPY tasks.toml /tasks/
ENV CRUNCH_TASKS=/tasks/tasks.toml
END
}

own_commands_run() {
  start --build
  word_count_runs
}

# The API knows a task within a second after its worker has started.
word_count_runs() {
  wait_until has_task word.count
  request --header 'Content-Type: text/plain' --data-binary 'to be or not to be' "$url/tasks/word.count/jobs?wait=30" |
    jq -e '.status == "succeeded" and .result.words == 6' >/dev/null
}

has_task() {
  request "$url/tasks/$1" | jq -e '.workers > 0' >/dev/null
}

keys_are_required() {
  create_key
  start
  requires_key
  succeeds "$(submit '{"photons": 1000}')"
}

# From now on requests have a key.
create_key() {
  local key
  key=$(run_api keys create --name compose-test --scopes admin)
  [[ $key == crk_* ]]
  curl_options+=(--header "Authorization: Bearer $key")
}

# Whether a request with the key is accepted, and one with another key or without is not.
requires_key() {
  [[ $(code_of "${curl_options[@]}" "$url/jobs") == 200 ]]
  [[ $(code_of "${curl_options[@]/#Authorization*/Authorization: Bearer crk_0}" "$url/jobs") == 401 ]]
  [[ $(code_of "${curl_options[@]/#Authorization*/X-Nothing: 1}" "$url/jobs") == 401 ]]
}

password_is_required() {
  create_password
  start
  requires_password redis
  succeeds "$(submit '{"photons": 1000}')"
}

create_password() {
  export CRUNCH_REDIS_PASSWORD
  CRUNCH_REDIS_PASSWORD=$(openssl rand -hex 32)
}

# requires_password SERVICE: and no command line of its container shows it.
requires_password() {
  [[ $(in_container "$1" env -u REDISCLI_AUTH redis-cli ping 2>&1) == *NOAUTH* ]]
  [[ $(in_container "$1" redis-cli ping) == PONG* ]]
  [[ $(compose top "$1") != *"$CRUNCH_REDIS_PASSWORD"* ]]
}

https_is_served() {
  create_certificate
  start
  serves_https
  succeeds "$(submit '{"photons": 1000}')"
}

# From now on requests use HTTPS.
create_certificate() {
  export CRUNCH_TLS_DIR=$directory/tls
  mkdir -p "$CRUNCH_TLS_DIR"
  quietly openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost -keyout "$CRUNCH_TLS_DIR/key.pem" -out "$CRUNCH_TLS_DIR/certificate.pem"
  # The user of the container reads them.
  chmod 644 "$CRUNCH_TLS_DIR"/*.pem
  url=https://localhost:$PORT
  curl_options+=(--cacert "$CRUNCH_TLS_DIR/certificate.pem")
}

serves_https() {
  [[ $(code_of "${curl_options[@]}" "$url/readyz") == 200 ]]
  [[ $(code_of "http://localhost:$PORT/readyz") == 000 ]]
}

a_webhook_is_delivered() {
  create_secret
  start
  webhook_arrives
}

# As docs/webhooks.md does it: without webhooks.yml, which needs what this prints.
create_secret() {
  local secret
  secret=$(files=(--file docker-compose.yml) && run_api webhook-secret)
  [[ $secret == whsec_* ]]
  export CRUNCH_WEBHOOK_SECRETS=$secret CRUNCH_WEBHOOK_ALLOW=receiver:9000
}

# The receiver is a container with Python in the network of the API.
webhook_arrives() {
  local id
  id=$(docker run --detach --network "${PROJECT}_default" --network-alias receiver --env CRUNCH_WEBHOOK_SECRETS \
    --label "com.docker.compose.project=$PROJECT" --entrypoint python3 crunch-worker-commands -c "$(receiver)")
  wait_until log_has "$id" listening
  submit '{"photons": 1000}' 'webhook.url=http://receiver:9000/' >/dev/null
  [[ $(timeout "$(remaining)" docker wait "$id") == 0 ]]
}

# A server that receives one webhook, and exits with 0 if its signature is valid.
receiver() {
  cat <<'END'
import base64, hmac, http.server, os, sys

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        head = [self.headers[name] for name in ("webhook-id", "webhook-timestamp")]
        key = base64.b64decode(os.environ["CRUNCH_WEBHOOK_SECRETS"].removeprefix("whsec_"))
        digest = hmac.digest(key, ".".join([*head, ""]).encode() + body, "sha256")
        expected = "v1," + base64.b64encode(digest).decode()
        self.server.is_valid = b"job.succeeded" in body and self.headers["webhook-signature"] == expected
        self.send_response(204)
        self.end_headers()

with http.server.HTTPServer(("", 9000), Receiver) as server:
    print("listening", flush=True)
    server.handle_request()
    sys.exit(not server.is_valid)
END
}

log_has() {
  docker logs "$1" 2>&1 | grep -q "$2"
}

# The secret first: that needs none of the other settings.
all_overrides_work() {
  create_secret
  create_password
  create_certificate
  create_key
  start --build
  everything_is_hardened
  requires_key
  requires_password redis
  serves_https
  webhook_arrives
  word_count_runs
}
