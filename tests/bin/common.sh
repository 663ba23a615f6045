# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

# What the scripts beside this file share. Sourced; leaves the caller in the top directory of the checkout.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
build=$root/.build
venv=$root/.venv
oldest=$build/venv-oldest
skipped=77 # exit status of a step that this machine cannot run; the last line says why

# mypy and ansible-lint colour even what goes into a file, if asked by the environment.
unset FORCE_COLOR PY_COLORS ANSIBLE_FORCE_COLOR
mkdir -p "$build"

die() {
  echo "$*" >&2
  exit 1
}

# The path of a working pythonX.Y. pyenv's shims are in PATH for versions that are not switched on, so each is tried.
find_python() {
  local candidate
  for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/"python$1"; do
    if "$candidate" -c '' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

# PATH with every Python of the machine that ansible-test may want.
path_with_pythons() {
  local minor python path=$PATH
  for minor in 9 10 11 12 13 14 15; do
    if python=$(find_python "3.$minor") && [[ $(command -v "python3.$minor") != "$python" ]]; then
      path=${python%/*}:$path
    fi
  done
  echo "$path"
}

# Copies what git would commit to $build/<name>/ansible_collections/ferry/podman, the path that Ansible's tools insist
# on, and enters it. tests/output stays: ansible-test keeps virtual environments there. The copy is a git repository,
# because the tools ask git for the list of files and the checkout around it would tell them to ignore .build.
enter_copy() {
  local copy=$build/$1/ansible_collections/ferry/podman
  mkdir -p "$copy/tests"
  find "$copy" -mindepth 1 -maxdepth 1 ! -name tests -exec rm -rf {} +
  find "$copy/tests" -mindepth 1 -maxdepth 1 ! -name output -exec rm -rf {} +
  git ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d '' file; do
      if [[ -e $file || -L $file ]]; then printf '%s\0' "$file"; fi # git also lists what was deleted and not yet staged
    done |
    tar --create --null --files-from=- | tar --extract --directory="$copy"
  cd "$copy"
  git init --quiet .
}
