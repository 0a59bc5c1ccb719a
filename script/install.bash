# Finds the programs that a script requires and installs those that are missing. Sourced by other scripts, never run.
#
# Only the system's package manager is used, and only for missing programs: on a machine that has all of them, it is
# never called. Rust itself is never installed: the user decides how.
# shellcheck shell=bash

# Crunch uses functions, which Redis 7.0 introduced, and nothing that is newer.
readonly OLDEST_REDIS=7

# require COMMAND…: installs the missing ones; ends the script with the reason if that fails.
require() {
  local command missing=()
  for command in "$@"; do
    is_installed "$command" || missing+=("$command")
  done
  ((${#missing[@]} == 0)) || install "${missing[@]}"
  for command in "$@"; do
    is_installed "$command" || fail "$command was installed, but is not in PATH"
  done
}

# Ends the script with a message.
fail() {
  printf 'script/%s: %s\n' "${0##*/}" "$1" >&2
  exit 1
}

# Cargo of any version: it reports itself if it is too old for this workspace.
require_rust() {
  is_installed cargo || fail "Rust is missing: install it from https://rustup.rs, open a new terminal, and try again"
}

# Sets `redis_server` to the path of Redis or of its fork Valkey; one of them must be installed.
find_redis() {
  redis_server=$(command -v redis-server || command -v valkey-server)
  local version
  version=$("$redis_server" --version | sed -n 's/.*v=\([0-9.]*\).*/\1/p')
  ((${version%%.*} >= OLDEST_REDIS)) ||
    fail "$redis_server is version $version, but Crunch requires $OLDEST_REDIS.0 or newer: update it, or set CRUNCH_REDIS_URL to a newer one"
}

is_installed() {
  case $1 in
    redis-server) command -v redis-server || command -v valkey-server ;;
    # Debian packages venv separately.
    python3-venv) python3 -c 'import ensurepip, venv' ;;
    *) command -v "$1" ;;
  esac >/dev/null 2>&1
}

# install COMMAND…: as root, or with sudo; without permission, ends the script and prints the command to run as root.
install() {
  local manager packages=() command names
  manager=$(package_manager) || fail "requires $*, but finds no supported package manager: install them by hand"
  for command in "$@"; do
    # A command may require several packages.
    read -ra names <<<"$(packages_of "$manager" "$command")"
    packages+=("${names[@]}")
  done
  local line
  line="$(install_line "$manager") ${packages[*]}"
  printf 'script/%s: requires %s\n' "${0##*/}" "$*" >&2
  if [[ $manager == brew ]]; then
    run_install "$line"
  elif ((EUID == 0)); then
    run_install "$line"
  elif sudo -n true 2>/dev/null; then
    run_install "$line" sudo -n
  elif is_installed sudo && [[ -t 0 && -t 2 ]]; then
    run_install "$line" sudo
  else
    fail "has no permission to install packages. Run this as root, then try again:

  $line
"
  fi
}

# run_install LINE [SUDO…]: prints the output of the command only if it fails.
run_install() {
  local line=$1 log
  shift
  printf 'script/%s: installing: %s\n' "${0##*/}" "$line" >&2
  log=$("$@" env DEBIAN_FRONTEND=noninteractive sh -c "$line" </dev/null 2>&1) ||
    fail "the installation failed:

$log
"
}

package_manager() {
  local manager
  for manager in apt-get dnf pacman apk brew; do
    if is_installed "$manager"; then
      echo "$manager"
      return
    fi
  done
  return 1
}

install_line() {
  case $1 in
    # The package lists of a new machine are empty or old. Another apt may be running: wait for its lock.
    apt-get) echo "apt-get update && apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=120" ;;
    dnf) echo "dnf install -y" ;;
    pacman) echo "pacman -Sy --needed --noconfirm" ;;
    apk) echo "apk add" ;;
    brew) echo "brew install" ;;
  esac
}

# packages_of MANAGER COMMAND: the packages that contain it; by default one with the same name.
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
