# What `compose-test` checks of docker-compose.yml with one Redis. Sourced, never run.
# shellcheck shell=bash

# Set by a_job_runs: a job that has ended, and how fast a worker is.
finished_job='' photons_per_second=0

everything_is_hardened() {
  local id
  for id in $(compose ps --quiet); do
    # The user is a number: no file of the image decides who that is.
    docker inspect "$id" | jq -e '.[0] | .HostConfig.ReadonlyRootfs and .HostConfig.CapDrop == ["ALL"]
      and .HostConfig.SecurityOpt == ["no-new-privileges:true"] and (.Config.User | test("^[1-9][0-9]*:[1-9][0-9]*$"))
      and .HostConfig.Memory > 0 and .HostConfig.PidsLimit > 0' >/dev/null
    # shellcheck disable=SC2016 # The shell of the container expands it.
    timeout "$(remaining)" docker exec "$id" sh -c '
      grep -q "^CapEff:[[:space:]]*0*$" /proc/1/status && grep -q "^NoNewPrivs:[[:space:]]*1" /proc/1/status &&
      [ "$(id -u)" != 0 ] && touch /tmp/written && ! touch /written 2>/dev/null && ! touch /var/tmp/written 2>/dev/null'
  done
}

only_the_api_is_reachable() {
  local ports
  ports=$(docker ps --filter "label=com.docker.compose.project=$PROJECT" --format '{{.Ports}}' | grep -o '[^ ]*->[^ ,]*')
  [[ $ports == "127.0.0.1:$PORT->$PORT/tcp" ]]
  [[ $(docker network inspect --format '{{.Internal}}' "${PROJECT}_redis") == true ]]
  [[ $(docker inspect --format '{{len .NetworkSettings.Networks}}' "$(container redis)") == 1 ]]
}

a_job_runs() {
  local job
  finished_job=$(submit '{"photons": 20000000}')
  job=$(ended_job "$finished_job")
  [[ $(jq -r .status <<<"$job") == succeeded ]]
  is_kept "$finished_job"
  photons_per_second=$(jq '
    def seconds: capture("(?<date>.*)\\.(?<ms>[0-9]+)Z") | ("\(.date)Z" | fromdate) + (.ms | tonumber / 1000);
    20000000 / ((.finished_at | seconds) - (.started_at | seconds)) | floor' <<<"$job")
}

# Whether the result of the job of a_job_runs can be fetched.
is_kept() {
  request "$url/jobs/$1/result" | jq -e '.photons == 20000000 and .transmitted.fraction > 0.66' >/dev/null
}

three_workers_start() {
  CRUNCH_WORKERS=3 start
  wait_until workers_are 3
  start
  wait_until workers_are 1
}

# A worker that has stopped is not listed any more.
workers_are() {
  request "$url/workers" | jq -e "[.items[] | select(.kind == \"worker\")] | length == $1" >/dev/null
}

jobs_survive_down_and_up() {
  local waiting
  quietly compose stop worker
  waiting=$(submit '{"photons": 1000}')
  quietly compose down
  start
  is_kept "$finished_job"
  succeeds "$waiting"
}

# The job takes a minute, more than the 25 s for which a worker waits for it.
a_stopped_worker_releases_its_job() {
  local job
  job=$(submit "{\"photons\": $((photons_per_second * 60))}")
  wait_until has_status "$job" running
  quietly compose stop worker
  has_status "$job" queued
  request "$url/jobs/$job/attempts" | jq -e '[.items[].outcome] == ["released"]' >/dev/null
  quietly compose start worker
  ended_job "$job" | jq -e '.status == "succeeded" and .attempt == 1' >/dev/null
}

kill_redis() {
  kill_processes redis
  wait_until was_restarted redis
}

audit_is_clean() {
  quietly in_container api crunch-api audit
}
