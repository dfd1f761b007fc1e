#!/bin/sh
# On a GPU machine without network: install a bundle (make gpu-bundle) into a folder of its own beside the torch that is there,
# and run the checks. Nothing else of the machine is changed.
#
#   sh benchmarks/gpu_offline.sh BUNDLE FOLDER [options of benchmarks.gpu]
#
# PYTHON names the interpreter that has torch (python3). A FOLDER that is there already is used as it is.
set -eu
[ $# -ge 2 ] || { sed -n '2,8p' "$0" >&2; exit 2; }
bundle=$(cd "$1" && pwd) folder=$2
shift 2
python=$(command -v "${PYTHON:-python3}") || { echo "${PYTHON:-python3}: no such interpreter" >&2; exit 2; }
case $python in /*) ;; *) python=$PWD/$python ;; esac
if [ ! -f "$folder/installed" ]; then
    (cd "$bundle" && sha256sum --quiet -c SHA256SUMS) || { echo "$bundle: a part is missing or damaged" >&2; exit 2; }
    mkdir -p "$folder"
    cat "$bundle"/part-* | tar -x -C "$folder"
    "$python" -m pip install -q --no-index --no-deps --no-warn-conflicts --target "$folder/packages" "$folder"/wheels/*.whl
    rm -r "$folder/wheels"
    touch "$folder/installed"
fi
folder=$(cd "$folder" && pwd)
cd "$(dirname "$0")/.."
export PYTHONPATH="$folder/packages${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m benchmarks.gpu "$@"
