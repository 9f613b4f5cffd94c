#!/usr/bin/env bash
# The whole chain on real images with real ImageNet weights, offline: 40 classes of Tiny-ImageNet.
#
#   SPURIOUS_DATA=/path/to/data examples/tiny_imagenet.sh [OUT]
#
# $SPURIOUS_DATA/tiny-imagenet holds WebDataset tars: train-* (labelled), val-* (labelled), pool-* (unlabelled).
# lite0 finds the components and mines; lite1 and lite2 vote; all three are evaluated under both protocols.
set -euo pipefail

data=${SPURIOUS_DATA:?set SPURIOUS_DATA to the directory that holds tiny-imagenet/}/tiny-imagenet
out=${1:-out/tiny-imagenet}
size=128
scorer=wheel:efficientnet_lite0
voters=("wheel:efficientnet_lite1?image_size=$size" "wheel:efficientnet_lite2?image_size=$size")

for split in train val pool; do
  spurious features --model "$scorer" --image-size $size --shards "$data/$split-*.tar" --out "$out/features/$split"
done

[ -e "$out/bank" ] ||
  spurious components --model "$scorer" --image-size $size --features "$out/features/train" --out "$out/bank"

spurious mine --bank "$out/bank" --features "$out/features/pool" \
  --agree "${voters[0]}" --agree "${voters[1]}" --min-agree 2 --top 200 --keep 30 --components 3 --out "$out/candidates"

rm -rf "$out/dataset"
spurious publish --candidates "$out/candidates" --min-images 10 --name "Tiny-ImageNet candidates" --out "$out/dataset"

python - "$out/dataset" <<'PY'
import sys

from datasets import load_dataset

dataset = load_dataset(sys.argv[1], split="test")
print(dataset)
print({k: v for k, v in dataset[0].items() if k in ("class_name", "concept_id", "alpha", "votes", "image")})
PY

for protocol in paper standard; do
  for model in "$scorer?image_size=$size" "${voters[@]}"; do
    name=${model#wheel:efficientnet_}
    spurious evaluate --model "$model" --dataset "$out/dataset" --val "$data/val-*.tar" --protocol $protocol \
      --out "$out/records/${name%%\?*}-$protocol.json"
  done
done
