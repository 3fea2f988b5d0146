#!/usr/bin/env bash
# Several nodes by hand: the same line on each of them, with the address of any one that all can reach.
#
#   NODES=2 HEAD=10.0.0.1:29500 bash torchrun.sh train-rl flux_fill --sharded --input /shared/triplets \
#       --judge /shared/judge/final --probe /shared/held-out --output /shared/runs/rl
#
# A node or a worker that dies ends the others; all then start again, up to three times, from the last checkpoint.
set -euo pipefail
# Otherwise workers that start again on several nodes meet the addresses of dead ones (pytorch issue 135712).
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1

exec torchrun \
    --nnodes "${NODES:-1}" \
    --nproc-per-node "${CARDS:-8}" \
    --rdzv-backend c10d \
    --rdzv-endpoint "${HEAD:-localhost:29500}" \
    --rdzv-id "${RUN_ID:-onereward}" \
    --max-restarts 3 \
    -m onereward "$@"
