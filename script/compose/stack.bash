# The stack that `compose-test` checks: which files it is made of, its containers, and requests to its API. Sourced, never run.
# shellcheck shell=bash

readonly PROJECT=crunch-compose-test
# Not the default port: a stack of the user, or script/up, may have that.
readonly PORT=28080

# Files and settings of the stack; how its API is reached; the processes that submit jobs.
files=() environment=/dev/null url='' curl_options=() clients=()

# use [NAME…]: from now on the stack is docker-compose.yml with these files of deploy/compose, and has no data.
use() {
  local name
  remove_project
  forget_settings
  files=(--file docker-compose.yml)
  for name in "$@"; do files+=(--file "deploy/compose/$name.yml"); done
  url=http://localhost:$PORT curl_options=()
}

# Those of the user, or of an earlier check, would change what is tested.
forget_settings() {
  local name
  for name in "${!CRUNCH_@}" "${!COMPOSE_@}"; do unset "$name"; done
}

# A file `.env` of the user is not read.
compose() {
  CRUNCH_PORT=$PORT timeout "$(remaining)" docker compose --progress plain --env-file "$environment" \
    --project-name "$PROJECT" "${files[@]}" "$@" </dev/null
}

# start [--build]: returns once every container is healthy.
start() {
  quietly compose up --detach --wait "$@"
  compose ps --all --format json | jq -es 'flatten | length > 2 and all(.Health == "healthy")' >/dev/null
}

# run ARGUMENTS…: runs crunch-api in a container of its own, as docs/deployment.md does.
run_api() {
  compose run --rm --no-deps --no-TTY api "$@" 2>>"$log"
}

# in_container SERVICE COMMAND…
in_container() {
  compose exec --no-TTY "$@"
}

# container SERVICE: prints its id.
container() {
  compose ps --all --quiet "$1"
}

# Kills every process of a container except the first: that is the init of the engine, which then exits.
kill_processes() {
  quietly in_container "$1" sh -c 'kill -KILL -1' || true
}

# Whether the engine has started the container of a service again.
was_restarted() {
  (($(docker inspect --format '{{.RestartCount}}' "$(container "$1")") > 0))
}

# By label: that also finds what a run that was killed has left, and needs no files.
remove_project() {
  local filter=label=com.docker.compose.project=$PROJECT
  docker ps --all --quiet --filter "$filter" | xargs --no-run-if-empty docker rm --force >/dev/null
  docker volume ls --quiet --filter "$filter" | xargs --no-run-if-empty docker volume rm --force >/dev/null
  docker network ls --quiet --filter "$filter" | xargs --no-run-if-empty docker network rm >/dev/null
}

remove_images() {
  docker image rm --force crunch-worker-commands crunch-worker crunch-api crunch-redis >/dev/null
  docker image ls --quiet --filter 'reference=crunch-test-*' | xargs --no-run-if-empty docker image rm --force >/dev/null
  docker builder prune --force >/dev/null
}

# request CURL_ARGUMENTS…: prints the response; fails if it is an error.
request() {
  curl --silent --show-error --fail --noproxy '*' --max-time "$(remaining)" "${curl_options[@]}" "$@"
}

# code_of CURL_ARGUMENTS…: prints the status code of the response, or 000.
code_of() {
  curl --silent --noproxy '*' --max-time "$(remaining)" --output /dev/null --write-out '%{http_code}' "$@" || true
}

# submit PAYLOAD [QUERY [CURL_ARGUMENTS…]]: submits a job of the task `crunch`, and prints its id.
submit() {
  local payload=$1 query=${2-}
  shift $(($# < 2 ? $# : 2))
  request --header 'Content-Type: application/json' --data "$payload" "$@" "$url/crunch?$query" | jq -r .id
}

# ended_job ID: waits until the job has ended, also while responses are 503, and prints its document.
ended_job() {
  local job
  until job=$(request "$url/jobs/$1?wait=30" 2>>"$log") && jq -e .finished_at <<<"$job" >/dev/null; do
    pause || return 1
  done
  echo "$job"
}

# succeeds ID: waits until the job has ended.
succeeds() {
  [[ $(ended_job "$1" | jq -r .status) == succeeded ]]
}

# has_status ID STATUS
has_status() {
  [[ $(request "$url/jobs/$1" | jq -r .status) == "$2" ]]
}

# survives FAULT DURABILITY: causes the fault while eight clients submit jobs, each as durable as that. Every accepted job must
# succeed.
survives() {
  local client job accepted=$directory/accepted
  : >"$accepted"
  clients=()
  for client in 1 2 3 4 5 6 7 8; do
    submit_many 12 "$2" "$client" >>"$accepted" &
    clients+=($!)
  done
  wait_until has_lines 20 "$accepted"
  "$1"
  for client in "${clients[@]}"; do wait "$client"; done
  has_lines 96 "$accepted"
  while read -r job; do succeeds "$job"; done <"$accepted"
}

# submit_many COUNT DURABILITY CLIENT: prints the ids. Repeats each submission with its key until it is accepted.
submit_many() {
  local number job
  for ((number = 1; number <= $1; number++)); do
    until job=$(submit '{"photons": 1000}' "durability=$2" --header "Idempotency-Key: $2-$3-$number" 2>>"$log"); do
      pause || return 1
    done
    echo "$job"
  done
}

has_lines() {
  (($(wc -l <"$2") >= $1))
}
