# What `compose-test` checks of the profile `monitoring`. Sourced, never run.
# shellcheck shell=bash

# Not the default ports: other ones of this machine may have those.
readonly PROMETHEUS_PORT=29090 GRAFANA_PORT=23000

# use_monitoring: as `use`, with the profile.
use_monitoring() {
  use
  export COMPOSE_PROFILES=monitoring
  export CRUNCH_PROMETHEUS_PORT=$PROMETHEUS_PORT CRUNCH_GRAFANA_PORT=$GRAFANA_PORT
}

# Whether the images of the profile are here, or can be pulled. There are no stand-ins: what is checked is how those images
# use the files of this repository.
has_monitoring_images() {
  local image
  deadline=$((SECONDS + TIMEOUT))
  for image in $(compose config --format json | jq -r '.services | .prometheus.image, .grafana.image'); do
    has_image "$image" || quietly docker pull --quiet "$image" || return 1
  done
}

monitoring_starts() {
  start
  everything_is_hardened
  local ports expected
  ports=$(docker ps --filter "label=com.docker.compose.project=$PROJECT" --format '{{.Ports}}' | grep -o '[^ ]*->[^ ,]*' | sort)
  expected=$(printf '127.0.0.1:%s\n' "$PORT->$PORT/tcp" "$PROMETHEUS_PORT->9090/tcp" "$GRAFANA_PORT->3000/tcp" | sort)
  [[ $ports == "$expected" ]]
}

prometheus_scrapes() {
  [[ $(code_of "http://127.0.0.1:$PROMETHEUS_PORT/-/ready") == 200 ]]
  wait_until targets_are_up
  wait_until has_samples crunch_build_info
}

# Whether the API and the worker are targets, and every target was read.
targets_are_up() {
  request "http://127.0.0.1:$PROMETHEUS_PORT/api/v1/targets?state=active" | jq -e '.data.activeTargets
    | ([.[].labels.job] | unique) == ["crunch-api", "crunch-worker"] and all(.health == "up")' >/dev/null
}

# has_samples METRIC
has_samples() {
  request "http://127.0.0.1:$PROMETHEUS_PORT/api/v1/query?query=$1" | jq -e '.data.result | length > 0' >/dev/null
}

# Every alarm of the file is loaded and was evaluated without an error.
rules_load() {
  local alarms
  alarms=$(grep -c 'alert:' deploy/prometheus/alerts.yml)
  wait_until rules_are_ok "$alarms"
}

rules_are_ok() {
  request "http://127.0.0.1:$PROMETHEUS_PORT/api/v1/rules?type=alert" | jq -e --argjson count "$1" '[.data.groups[].rules[]]
    | length == $count and all(.health == "ok")' >/dev/null
}

# Grafana has the board and the source of the provisioned files, and a viewer who has not logged in reads from Prometheus.
grafana_is_provisioned() {
  local grafana=http://127.0.0.1:$GRAFANA_PORT panels
  panels=$(jq '.panels | length' deploy/grafana/dashboards/crunch.json)
  wait_until quietly request "$grafana/api/dashboards/uid/crunch"
  request "$grafana/api/dashboards/uid/crunch" | jq -e --argjson count "$panels" \
    '.meta.provisioned and (.dashboard.panels | length == $count)' >/dev/null
  request "$grafana/api/frontend/settings" | jq -e '.datasources.Prometheus.type == "prometheus"' >/dev/null
  wait_until grafana_reads_prometheus "$grafana"
  # Nobody may log in and change it.
  [[ $(code_of --user admin:admin "$grafana/api/admin/settings") == 40[13] ]]
}

grafana_reads_prometheus() {
  local source
  source=$(request "$1/api/frontend/settings" | jq -r .datasources.Prometheus.uid)
  request "$1/api/datasources/proxy/uid/$source/api/v1/query?query=up" | jq -e '.data.result | length > 0' >/dev/null
}
