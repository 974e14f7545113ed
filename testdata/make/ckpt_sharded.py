"""Sharded sets: an index file that says which tensor is in which shard."""

import json
from collections import OrderedDict

import torch
from safetensors.torch import save

from common import finish, put, randn, torch_save


def weights():
    return OrderedDict([
        ("model.embed.weight", randn(6, 4)), ("model.layers.0.weight", randn(4, 4)),
        ("model.layers.0.bias", randn(4, seed=1)), ("model.layers.1.weight", randn(4, 4, seed=2)),
        ("model.layers.1.bias", randn(4, seed=3)),
        ("lm_head.weight", randn(6, 4, seed=4, dtype=torch.bfloat16)),
    ])


def split(state, count):
    names = list(state)
    size = -(-len(names) // count)
    return [names[at:at + size] for at in range(0, len(names), size)]


def index(groups, file_name, state):
    total = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    weight_map = {name: file_name(number) for number, group in enumerate(groups, 1)
                  for name in group}
    document = {"metadata": {"total_size": total}, "weight_map": weight_map}
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()


def main():
    state = weights()
    groups = split(state, 3)

    def bin_name(number):
        return f"pytorch_model-{number:05}-of-{len(groups):05}.bin"

    def st_name(number):
        return f"model-{number:05}-of-{len(groups):05}.safetensors"

    for number, group in enumerate(groups, 1):
        shard = OrderedDict((name, state[name]) for name in group)
        put(f"ckpt/good/sharded_bin/{bin_name(number)}", torch_save(shard, "pytorch_model.bin"),
            note="one shard", shard=True)
        put(f"safetensors/good/sharded/{st_name(number)}", save(shard, {"format": "pt"}),
            note="one shard", shard=True)
    put("ckpt/good/sharded_bin/pytorch_model.bin.index.json", index(groups, bin_name, state),
        note="index of three shards", index=True)
    put("safetensors/good/sharded/model.safetensors.index.json", index(groups, st_name, state),
        note="index of three shards", index=True)
    finish(__file__)


if __name__ == "__main__":
    main()
