#!/usr/bin/env bash
# Makes an environment with everything that development needs:
#
#     install/environment.sh VENV [PYTHON]
#
# TORCH=auto|cpu|cuda  which build of torch; auto: cpu where there is no NVIDIA GPU
# EXTRAS=dev           which extras
# LOCKED=1             exactly the versions of install/lock.txt, with their hashes (needs uv)
set -euo pipefail
venv=$1 python=${2:-python3.11}
torch=${TORCH:-auto} extras=${EXTRAS:-dev} locked=${LOCKED:-}
here=$(cd "$(dirname "$0")/.." && pwd)

say() { echo "install: $*" >&2; }
fail() { say "$*"; exit 2; }

case $torch in
  auto | cpu | cuda) ;;
  *) fail "TORCH=$torch: expected auto, cpu or cuda." ;;
esac
if [ "$torch" = auto ] && [ "$(uname -s)" = Linux ] && ! [ -e /dev/nvidiactl ] && ! nvidia-smi >/dev/null 2>&1; then
  say "no NVIDIA GPU here: taking the CPU build of torch (TORCH=cuda takes the other)."
  torch=cpu
fi

works() { "$venv/bin/python" -c 'import torch, torchvision' 2>/dev/null; }

# uv knows where builds of torch for other hardware are.
backend() {
  case $torch in
    cuda) if [ -e /dev/nvidiactl ]; then echo --torch-backend=auto; fi ;;
    *) echo "--torch-backend=$torch" ;;
  esac
}

with_uv() {
  # A setting of the machine may name a build already, and a folder of files has it without a network.
  uv pip install --quiet --python "$venv/bin/python" "$@"
}

install_uv() {
  uv venv --quiet --allow-existing --python "$python" "$venv"
  if [ -n "$locked" ]; then
    with_uv --no-deps --require-hashes -r "$here/install/lock.txt"
    set -- $(sed -n 's/^\(torch\(vision\)\{0,1\}==[^ ]*\).*/\1/p' "$here/install/lock-torch.txt")
    if [ -z "$(backend)" ] || ! with_uv $(backend) "$@" 2>"$venv/torch-backend.log"; then
      [ -z "$(backend)" ] || say "$unreachable"
      with_uv --no-deps --require-hashes -r "$here/install/lock-torch.txt"
    fi
    with_uv --no-deps -e "$here[$extras]"
  elif ! { [ -n "$(backend)" ] && with_uv $(backend) -e "$here[$extras]" 2>"$venv/torch-backend.log"; }; then
    [ -z "$(backend)" ] || say "$unreachable"
    with_uv -e "$here[$extras]"
  fi
}

unreachable="the build of torch for this machine could not be had (its index cannot be reached from here, or lacks this version): \
taking the build of your package index, which on Linux brings several GB of CUDA."

# pip has no name for a build. Where the configured index or folder offers both libraries as +cpu, torchvision's own
# requirement leads to the torch of the same build; one without the other cannot be imported.
install_pip() {
  "$python" -m venv "$venv"
  local pip="$venv/bin/pip" vision=""
  if [ "$torch" = cpu ] && [ "$(uname -s)" = Linux ]; then
    if offers torch >/dev/null && vision=$(offers torchvision); then
      "$pip" install --quiet "torchvision==$vision" -e "$here[$extras]" && works && return
      say "torchvision $vision and its torch could not be used; taking the newest of the package index."
      "$pip" uninstall --quiet --yes torch torchvision
    else
      say "your package index offers no CPU build of torch and torchvision: taking its own, which brings several GB of" \
        "CUDA. To avoid that: pip install uv, then make install again; uv finds the CPU build."
    fi
  fi
  "$pip" install --quiet -e "$here[$extras]"
}

offers() {
  "$venv/bin/pip" index versions "$1" 2>/dev/null | tr ', ' '\n\n' | grep -m 1 '+cpu$'
}

if command -v uv >/dev/null; then
  install_uv
elif [ -n "$locked" ]; then
  fail "LOCKED=1 needs uv: pip install uv, or leave it out."
else
  install_pip
fi
"$venv/bin/python" - <<'PY'
import torch, torchvision

build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
print(f"install: torch {torch.__version__} ({build}), torchvision {torchvision.__version__}.")
PY
