# What `compose-test` checks of docker-compose.yml with one Redis. Sourced, never run.
# shellcheck shell=bash

# Set by a_job_runs: a job that has ended.
finished_job=''

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
  finished_job=$(submit '{"photons": 2000000}')
  succeeds "$finished_job"
  is_kept "$finished_job"
}

# Whether the result of the job of a_job_runs can be fetched.
is_kept() {
  request "$url/jobs/$1/result" | jq -e '.photons == 2000000 and .transmitted.fraction > 0.66' >/dev/null
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

kill_redis() {
  kill_processes redis
  wait_until was_restarted redis
}

audit_is_clean() {
  quietly in_container api crunch-api audit
}
