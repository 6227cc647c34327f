#!/usr/bin/env bash
# A search on a Cloud TPU pod slice, one process a host. Not run by the authors: no pod
# was at hand; read it before you use it.
#
#   NAME=swarm ZONE=us-west4-a experiments/tpu_pod.sh create
#   NAME=swarm ZONE=us-west4-a NFS=10.0.0.2:/share experiments/tpu_pod.sh mount
#   NAME=swarm ZONE=us-west4-a experiments/tpu_pod.sh sync       # after every edit
#   NAME=swarm ZONE=us-west4-a experiments/tpu_pod.sh install
#   NAME=swarm ZONE=us-west4-a experiments/tpu_pod.sh run --config=configs/quickstart.py \
#     --workdir=/mnt/share/runs/quickstart
#
# The same `run` continues after a kill or a preemption. All hosts must see --workdir
# (and the models, if they are no hub ids): put both on the share.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${NAME:?name of the TPU}" "${ZONE:?its zone}"
TYPE=${TYPE:-v5litepod-16}
VERSION=${VERSION:-v2-alpha-tpuv5-lite}
tpu=(gcloud compute tpus tpu-vm)

everywhere() {
  "${tpu[@]}" ssh "$NAME" --zone="$ZONE" --worker=all --command="$1"
}

case ${1:-} in
  create)
    "${tpu[@]}" create "$NAME" --zone="$ZONE" --accelerator-type="$TYPE" \
      --version="$VERSION"
    ;;
  mount)
    : "${NFS:?host:/path of the share}"
    everywhere "sudo apt-get install -y nfs-common && sudo mkdir -p /mnt/share &&
      sudo mount -t nfs $NFS /mnt/share && sudo chmod a+rwx /mnt/share"
    ;;
  sync)
    archive=$(mktemp -d)/jswarm.tar.gz
    git ls-files --cached --others --exclude-standard -z | tar czf "$archive" --null -T -
    "${tpu[@]}" scp "$archive" "$NAME": --zone="$ZONE" --worker=all
    everywhere "mkdir -p jswarm && tar xzf jswarm.tar.gz -C jswarm"
    ;;
  install)
    everywhere "sudo apt-get update -qq && sudo apt-get install -y python3.11-venv &&
      python3.11 -m venv venv && venv/bin/pip install -q -e 'jswarm[tpu]'"
    ;;
  run)
    shift
    # One quoted word a flag: they pass through gcloud, ssh and a shell.
    everywhere "cd jswarm && ../venv/bin/python -m experiments.search --distributed $(
      printf '%q ' "$@")"
    ;;
  delete)
    "${tpu[@]}" delete "$NAME" --zone="$ZONE"
    ;;
  *)
    sed -n '2,15p' "$0" >&2
    exit 64
    ;;
esac
