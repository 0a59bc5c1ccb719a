# What `compose-test` checks of the profile `cluster`. Sourced, never run.
# shellcheck shell=bash

readonly NODES=(redis-1 redis-2 redis-3 redis-4 redis-5 redis-6)

# use_cluster [NAME…]: as `use`, with the profile.
use_cluster() {
  use "$@"
  environment=deploy/compose/cluster.env
}

cluster_starts() {
  start
  [[ -z $(container redis) ]]
  wait_until has_replicas
  everything_is_hardened
}

# Whether three masters have slots, and three replicas are connected, as the second node sees it.
has_replicas() {
  (($(connected_nodes | grep -c 'master - .* connected [0-9]') == 3)) &&
    (($(connected_nodes | grep -c 'slave .* connected$') == 3))
}

connected_nodes() {
  in_container redis-2 redis-cli cluster nodes | tr -d '\r' | grep -v fail
}

kill_master() {
  kill_processes redis-1
  wait_until was_restarted redis-1
  wait_until has_replicas
}

# A container that is killed through the engine is not started again, like a machine that is lost. It returns as a replica.
lose_master() {
  quietly compose kill redis-1
  wait_until took_over
  start
  wait_until has_replicas
}

# Whether the replica of redis-1 has its slots.
took_over() {
  (($(connected_nodes | grep -v ',redis-1 ' | grep -c 'master - .* connected [0-9]') == 3))
}

# Other networks take the addresses that the nodes had.
cluster_survives_new_addresses() {
  local before name
  before=$(addresses)
  quietly compose down
  for name in first second; do
    quietly docker network create --label "com.docker.compose.project=$PROJECT" "$PROJECT-$name"
  done
  start
  [[ -z $(comm -12 <(echo "$before") <(addresses)) ]]
  wait_until has_replicas
  is_kept "$finished_job"
  succeeds "$(submit '{"photons": 1000}')"
}

addresses() {
  compose ps --quiet "${NODES[@]}" |
    xargs docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' | sort
}

cluster_requires_a_password() {
  create_password
  start
  requires_password redis-1
  succeeds "$(submit '{"photons": 1000}')"
}
