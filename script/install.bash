# Finds the programs that a script needs and installs those that are missing. Sourced by `up` and `test`, never run.
#
# Only the system's own package manager is asked, and only for what is not there yet: on a machine that has
# everything, nothing is called at all. Rust itself is never installed: that choice is the user's.
# shellcheck shell=bash

# What a newer Redis has is not needed; what 7.0 brought (functions) is.
readonly OLDEST_REDIS=7

# need COMMAND…: afterwards every command is there, or the script has ended with the reason.
need() {
  local command missing=()
  for command in "$@"; do
    present "$command" || missing+=("$command")
  done
  ((${#missing[@]} == 0)) || install "${missing[@]}"
  for command in "$@"; do
    present "$command" || fail "$command was installed, but cannot be found in PATH"
  done
}

# Ends the script with a message.
fail() {
  printf 'script/%s: %s\n' "${0##*/}" "$1" >&2
  exit 1
}

# Cargo, of any version: it says by itself if it is too old for this workspace.
need_rust() {
  present cargo || fail "Rust is missing: install it from https://rustup.rs, open a new terminal, and try again"
}

# Redis, or its twin Valkey, once it is there. Sets `redis_server`.
find_redis() {
  redis_server=$(command -v redis-server || command -v valkey-server)
  local version
  version=$("$redis_server" --version | sed -n 's/.*v=\([0-9.]*\).*/\1/p')
  ((${version%%.*} >= OLDEST_REDIS)) ||
    fail "$redis_server is version $version, and Crunch needs $OLDEST_REDIS.0 or newer: update it, or set CRUNCH_REDIS_URL to a newer one"
}

present() {
  case $1 in
    redis-server) command -v redis-server || command -v valkey-server ;;
    # Debian has what makes environments in a package of its own.
    python3-venv) python3 -c 'import ensurepip, venv' ;;
    *) command -v "$1" ;;
  esac >/dev/null 2>&1
}

# install COMMAND…: as root, or through sudo; without the right to, tells the one command that is missing.
install() {
  local manager packages=() command names
  manager=$(package_manager) || fail "needs $*, and knows no package manager here: install them by hand"
  for command in "$@"; do
    # A command may take several packages.
    read -ra names <<<"$(packages_of "$manager" "$command")"
    packages+=("${names[@]}")
  done
  local line
  line="$(install_line "$manager") ${packages[*]}"
  printf 'script/%s: needs %s\n' "${0##*/}" "$*" >&2
  if [[ $manager == brew ]]; then
    run_install "$line"
  elif ((EUID == 0)); then
    run_install "$line"
  elif sudo -n true 2>/dev/null; then
    run_install "$line" sudo -n
  elif present sudo && [[ -t 0 && -t 2 ]]; then
    run_install "$line" sudo
  else
    fail "may not install that. Run this as root, then try again:

  $line
"
  fi
}

# run_install LINE [SUDO…]: what it prints is shown only if it fails.
run_install() {
  local line=$1 log
  shift
  printf 'script/%s: installing: %s\n' "${0##*/}" "$line" >&2
  log=$("$@" env DEBIAN_FRONTEND=noninteractive sh -c "$line" </dev/null 2>&1) ||
    fail "that failed:

$log
"
}

package_manager() {
  local manager
  for manager in apt-get dnf pacman apk brew; do
    if present "$manager"; then
      echo "$manager"
      return
    fi
  done
  return 1
}

install_line() {
  case $1 in
    # The lists of a fresh machine are empty or old; another apt may be at work, so wait for it.
    apt-get) echo "apt-get update && apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=120" ;;
    dnf) echo "dnf install -y" ;;
    pacman) echo "pacman -Sy --needed --noconfirm" ;;
    apk) echo "apk add" ;;
    brew) echo "brew install" ;;
  esac
}

# packages_of MANAGER COMMAND: which packages bring it, where the name is not its own.
packages_of() {
  case $1:$2 in
    apt-get:cc) echo gcc libc6-dev ;;
    apk:cc) echo gcc musl-dev ;;
    *:cc) echo gcc ;;
    dnf:redis-server | apk:redis-server | brew:redis-server) echo redis ;;
    pacman:redis-server) echo valkey ;;
    pacman:python3) echo python ;;
    apt-get:python3-venv) echo python3-venv ;;
    *:python3-venv) packages_of "$1" python3 ;;
    brew:npm | brew:node) echo node ;;
    *:node) echo nodejs ;;
    dnf:promtool) echo golang-github-prometheus ;;
    *:promtool) echo prometheus ;;
    dnf:shellcheck) echo ShellCheck ;;
    apt-get:luacheck) echo lua-check ;;
    brew:flock) echo flock ;;
    *:flock) echo util-linux ;;
    *) echo "$2" ;;
  esac
}
