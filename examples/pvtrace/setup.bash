# Makes the virtual environment of this example and finds the binaries. Sourced by `run` and `check`, never run.
# shellcheck shell=bash

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
readonly VENV=$here/.venv
readonly SDK=$here/../../sdk/python
# A copy of each requirement file whose packages are installed, and a list of the files of the SDK that is.
readonly INSTALLED=$VENV/installed
# The exit code if the packages cannot be installed here: EX_UNAVAILABLE of sysexits.h.
readonly UNAVAILABLE=69

# fail MESSAGE [CODE]: ends the script.
fail() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  exit "${2:-1}"
}

# make_venv FILE…: installs pvtrace, this repository's Python package, and the packages of these requirement files. Does
# nothing while they are unchanged. If another script is doing the same, waits for it.
make_venv() {
  local python file
  python=$(find_python)
  exec 9>>"$VENV.lock"
  flock 9
  make_empty_venv "$python" "$@"
  for file in "$@"; do
    install_pinned "$file" --only-binary :all:
  done
  install_pinned "$here/requirements-pvtrace.txt" --no-deps --no-build-isolation --use-pep517
  install_sdk
  exec 9>&-
}

# Prints the first Python that NumPy 1 has wheels for. A command may exist and fail, as those of version managers do.
find_python() {
  local candidate is_usable='import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info < (3, 13))'
  for candidate in ${CRUNCH_PYTHON:-python3.12 python3.11 python3.10 python3}; do
    if "$candidate" -c "$is_usable" 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "requires Python 3.10, 3.11 or 3.12 with venv: install it, or name one in CRUNCH_PYTHON" "$UNAVAILABLE"
}

# make_empty_venv PYTHON FILE…: replaces an environment of another Python, or one with older pins, whose packages could
# remain otherwise.
make_empty_venv() {
  local python=$1 version file
  shift
  version=$("$python" -c 'import sys; print(sys.version)')
  if [[ -f $INSTALLED/python && $(<"$INSTALLED/python") == "$version" ]]; then
    local changed=false
    for file in "$@" "$here/requirements-pvtrace.txt"; do
      [[ ! -f $INSTALLED/${file##*/} ]] || is_installed "$file" || changed=true
    done
    $changed || return 0
  fi
  echo "installing pvtrace and what it uses (270 MB) in examples/pvtrace/.venv"
  rm -rf "$VENV"
  "$python" -m venv "$VENV" || fail "cannot make a virtual environment: see above" "$UNAVAILABLE"
  mkdir "$INSTALLED"
  echo "$version" >"$INSTALLED/python"
}

is_installed() {
  cmp -s "$1" "$INSTALLED/${1##*/}"
}

# install_pinned FILE OPTION…
install_pinned() {
  local file=$1
  shift
  is_installed "$file" && return
  pip_install --require-hashes --requirement "$file" "$@"
  cp "$file" "$INSTALLED"
}

# Builds with the pinned tools of the environment, and downloads nothing.
install_sdk() {
  local files
  files=$(cd "$SDK" && find . -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 cksum) ||
    fail "cannot read sdk/python"
  [[ -f $INSTALLED/sdk && $(<"$INSTALLED/sdk") == "$files" ]] && return
  pip_install --no-deps --no-build-isolation --no-index --force-reinstall "$SDK"
  echo "$files" >"$INSTALLED/sdk"
}

pip_install() {
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --retries 2 --timeout 30 "$@" </dev/null 9>&- ||
    fail "pip failed: see above" "$UNAVAILABLE"
}

# Sets `binaries` to the folder with crunch-api and crunch-worker: CRUNCH_BIN, or that of a release build.
find_binaries() {
  local folder=${CRUNCH_BIN-}
  [[ -n $folder ]] || build
  binaries=$(cd "$folder" && pwd) || fail "there is no folder $folder"
  [[ -x $binaries/crunch-api && -x $binaries/crunch-worker ]] ||
    fail "crunch-api and crunch-worker are not in $binaries"
}

# Sets `folder` to the one that Cargo reports: CARGO_TARGET_DIR or its configuration may name any.
build() {
  command -v cargo >/dev/null ||
    fail "Rust is missing: install it from https://rustup.rs, or name the folder of the binaries in CRUNCH_BIN"
  echo "building crunch-api and crunch-worker (some minutes the first time)"
  local built
  built=$(cargo build --release --locked --manifest-path "$here/../../Cargo.toml" -p crunch-api -p crunch-worker \
    --bins --message-format json-render-diagnostics) || fail "the build failed: see above"
  folder=$(sed -n 's/.*"executable":"\(.*\)\/crunch-worker".*/\1/p' <<<"$built")
}
