"""Makes testdata/unpack: layers as each method packs them, and what its own library makes of them.

    python testdata/make/unpack.py

| file | packed and read by |
|---|---|
| gptq{2,3,4,8}.safetensors | auto-gptq 0.7.1 (`QuantLinear.pack`, and its forward of the identity) |
| awq.safetensors | compressed-tensors' AutoAWQConverter and its decompressor |
| bnb-{nf4,fp4}{,-nested,-bf16}.safetensors, bnb-int8.safetensors | bitsandbytes 0.50.2 |
| ct-{pack4,pack8,asym4,nvfp4}.safetensors | compressed-tensors 0.20.0 |

fp8 and bitnet need no library: tests/interop/test_unpack.py holds them to llama.cpp's converter.
Each file holds the parts of the layer "l", `expected` with the values as F32 (or the type the
library gives), and in `__metadata__` the quantization_config under "settings".
The environment is tests/interop/run's; auto-gptq's wheel is fetched for its Python files alone.
"""
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import torch
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parents[1] / "unpack"
torch.manual_seed(20261121)


def save(name, settings, parts, expected):
    tensors = {key: value.contiguous() for key, value in parts.items()}
    tensors["expected"] = expected.contiguous()
    save_file(tensors, OUT / f"{name}.safetensors", metadata={"settings": json.dumps(settings)})


def quant_linear():
    """auto-gptq's layer, from its wheel: the package itself wants a GPU's libraries."""
    folder = pathlib.Path(tempfile.mkdtemp())
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, "auto-gptq==0.7.1"],
                   check=True)
    wheel = next(folder.glob("*.whl"))
    inside = "auto_gptq/nn_modules/qlinear/qlinear_cuda_old.py"
    zipfile.ZipFile(wheel).extract(inside, folder)
    spec = importlib.util.spec_from_file_location("qlinear", folder / inside)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.QuantLinear


def gptq(layer, bits):
    m, n, group = 96, 64, 32
    linear = torch.nn.Linear(m, n, bias=False)
    levels = 2**bits - 1
    blocks = linear.weight.data.reshape(n, m // group, group)
    low, high = blocks.amin(-1), blocks.amax(-1)
    scales = (high - low) / levels
    zeros = torch.clamp(torch.round(-low / scales), 1, levels)
    made = layer(bits, group, m, n, False, weight_dtype=torch.float32)
    # As its own quantizer sees it: every weight is on the grid before it is packed.
    codes = torch.clamp(torch.round(blocks / scales[..., None]) + zeros[..., None], 0, levels)
    linear.weight.data = ((codes - zeros[..., None]) * scales[..., None]).reshape(n, m)
    made.pack(linear, scales, zeros.clone(), None)
    expected = made(torch.eye(m)).T
    settings = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": False, "sym": False}
    parts = {f"l.{key}": getattr(made, key) for key in ("qweight", "qzeros", "scales", "g_idx")}
    save(f"gptq{bits}", settings, parts, expected)


def compressed():
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
    from compressed_tensors.entrypoints.convert.converters.autoawq import AutoAWQConverter
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from compressed_tensors.quantization.lifecycle.forward import dequantize

    pack = BaseCompressor.get_value_from_registry("pack-quantized")
    n, m, group = 40, 96, 32
    weight = torch.randn(n, m)

    def scheme(**more):
        args = dict(num_bits=4, type="int", symmetric=True, strategy="group", group_size=group)
        return QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**{**args, **more}))

    def config(name, scheme):
        args = scheme.weights
        weights = dict(num_bits=args.num_bits, type=str(args.type), symmetric=args.symmetric,
                       strategy=str(args.strategy), group_size=args.group_size)
        return {"quant_method": "compressed-tensors", "format": name,
                "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}

    for name, bits, symmetric in (("pack4", 4, True), ("pack8", 8, True), ("asym4", 4, False)):
        kind = scheme(num_bits=bits, symmetric=symmetric)
        state = {"weight": weight.clone(), "weight_scale": torch.rand(n, m // group) * 0.2 + 0.1}
        if not symmetric:
            state["weight_zero_point"] = torch.randint(-8, 8, (n, m // group), dtype=torch.int8)
        packed = pack.compress(state, kind)
        expected = pack.decompress(packed, kind)["weight"]
        parts = {f"l.{key}": value for key, value in packed.items()}
        save(f"ct-{name}", config("pack-quantized", kind), parts, expected)

    kind = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(
        num_bits=4, type="float", symmetric=True, strategy="tensor_group", group_size=16,
        scale_dtype=torch.float8_e4m3fn))
    nvfp4 = BaseCompressor.get_value_from_registry("nvfp4-pack-quantized")
    whole = torch.tensor([2.0**8 * 6 / 7.0])
    scale = (weight.reshape(n, m // 16, 16).abs().amax(-1) / 6 * whole).to(torch.float8_e4m3fn).float()
    packed = nvfp4.compress({"weight": weight.clone(), "weight_scale": scale, "weight_global_scale": whole}, kind)
    # Its decompressor goes by way of bf16; the same functions in F32.
    expected = dequantize(x_q=unpack_fp4_from_uint8(packed["weight_packed"], n, m).float(),
                          scale=packed["weight_scale"].float(), args=kind.weights, global_scale=whole,
                          dtype=torch.float32)
    parts = {f"l.{key}": value for key, value in packed.items()}
    save("ct-nvfp4", config("nvfp4-pack-quantized", kind), parts, expected)

    settings = {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True}
    words = lambda *shape: torch.randint(-2**31, 2**31, shape, dtype=torch.int64).to(torch.int32)
    parts = {"l.qweight": words(m, n // 8), "l.qzeros": words(m // group, n // 8),
             "l.scales": torch.rand(m // group, n) + 0.01}
    converted = AutoAWQConverter.from_autoawq_config(settings).process(dict(parts))
    kind = scheme(symmetric=False)
    state = {key.removeprefix("l."): value for key, value in converted.items()}
    save("awq", settings, parts, pack.decompress(state, kind)["weight"])


def bitsandbytes():
    import bitsandbytes.functional as f

    # Rows of whole blocks: for others the CPU kernel of 0.50.2 departs from the library's generic one.
    def four(name, kind, dtype, nested, shape=(24, 128)):
        weight = torch.randn(shape, dtype=dtype)
        codes, state = f.quantize_4bit(weight, blocksize=64, quant_type=kind, compress_statistics=nested)
        expected = f.dequantize_4bit(codes, state)
        parts = {"l.weight": codes}
        parts.update({f"l.weight.{key}": value for key, value in state.as_dict(packed=True).items()})
        save(name, {"quant_method": "bitsandbytes", "load_in_4bit": True}, parts, expected)

    four("bnb-nf4", "nf4", torch.float16, False)
    four("bnb-nf4-nested", "nf4", torch.float32, True)
    four("bnb-nf4-bf16", "nf4", torch.bfloat16, True)
    four("bnb-fp4", "fp4", torch.float16, True)
    weight = torch.randn(24, 96)
    codes, scales, _ = f.int8_vectorwise_quant(weight.to(torch.float16))
    expected = f.int8_vectorwise_dequant(codes, scales)
    parts = {"l.weight": codes, "l.SCB": scales, "l.weight_format": torch.tensor(0, dtype=torch.uint8)}
    save("bnb-int8", {"quant_method": "bitsandbytes", "load_in_8bit": True}, parts, expected.float())


def main():
    OUT.mkdir(exist_ok=True)
    layer = quant_linear()
    for bits in (2, 3, 4, 8):
        gptq(layer, bits)
    compressed()
    bitsandbytes()


if __name__ == "__main__":
    main()
