"""What transformers says: token ids, last-position logits, a greedy continuation, all in F32."""

import logging

import numpy as np
import torch
import transformers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
logging.getLogger("transformers").setLevel(logging.ERROR)
torch.set_num_threads(2)

# Each says something about a different part of a tokenizer.
TEXTS = {
    "english": "Hello, world! The quick brown fox jumps over the lazy dog.",
    "scripts": "Привет, как дела? 你好，世界！ こんにちは 안녕하세요 สวัสดี مرحبا",
    "emoji": "🚀🦙 emoji test 😶‍🌫️ ✅ flags 🇫🇷 family 👨‍👩‍👧‍👦",
    "code": "def fib(n):\n    return n if n < 2 else fib(n-1) + fib(n-2)\n\n\tprint(fib(10))  # code",
    "space": "  leading spaces,   multiple   spaces \t tabs\t\tand\n\n\nnewlines \n trailing  ",
    "numbers": "Numbers: 3 33 333 3333 33333 3.14159 1,000,000 2024-10-26 0xDEADBEEF",
    "accents": "naïve café Ångström ﬁ ½ İstanbul ẞ Zürich nbsp\u00a0zwsp\u200b end",
    "decomposed": "cafe\u0301 A\u030angstro\u0308m \u1112\u1161\u11ab",
    "quotes": "I'll we've DON'T \"quoted\" it's 'RE",
}
# What llama.cpp does otherwise whatever the file says (gguf_reference.md, Numerics).
OTHERWISE = {
    # transformers 5 rebuilds LlamaTokenizer from its class and `legacy: false`, which GGUF has no key for.
    ("llama2", "space"): "transformers joins the first space to no other",
    ("qwen2", "decomposed"): "no NFC in llama.cpp",
    ("qwen35", "decomposed"): "no NFC in llama.cpp",
    ("unigram", "decomposed"): "llama.cpp's map of characters composes Hangul; tokenizers' stops at a grapheme",
    ("bert", "scripts"): "llama.cpp splits Hangul otherwise",
    ("bert", "decomposed"): "llama.cpp splits Hangul otherwise",
}
# What a GGUF file does not tell, so that what comes back cannot do it.
UNTOLD = {("llama2", "space")}
PROMPTS = ("english", "scripts", "code")


def tokenize(folder):
    """Ids of the texts, with special tokens and without."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    both = {text: (tokenizer.encode(text), tokenizer.encode(text, add_special_tokens=False))
            for text in TEXTS.values()}
    return [both[text][0] for text in TEXTS.values()], [both[text][1] for text in TEXTS.values()]


def load(folder, spec, change):
    """The model of a repository, in F32, and names it did not find; `change` is put into parts of its config."""
    config = transformers.AutoConfig.from_pretrained(folder)
    more = {"config": config}
    for key, part in change.items():
        getattr(config, key).update(part)
    if getattr(config, "quantization_config", None):
        more["quantization_config"] = transformers.Mxfp4Config(dequantize=True)
    auto = transformers.AutoModel if spec.get("encoder") else transformers.AutoModelForCausalLM
    model, told = auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                       output_loading_info=True, **more)
    missing = [name for name in told["missing_keys"] if "pooler." not in name]
    return model.eval(), missing


@torch.no_grad()
def evaluate(folder, spec, prompts, steps=16, change={}):
    """Values of the last position for each prompt, and greedy continuations."""
    model, missing = load(folder, spec, change)
    assert not missing, f"transformers finds no {missing[:5]}"
    values, greedy = [], []
    for ids in prompts:
        ids = torch.tensor([ids])
        if spec.get("encoder"):
            values.append(model(input_ids=ids)[0][0, -1].float().numpy())
            greedy.append([])
            continue
        out = []
        for step in range(steps):
            logits = model(input_ids=ids, use_cache=False).logits[0, -1].float()
            if not step:
                values.append(logits.numpy().copy())
            out.append(int(logits.argmax()))
            ids = torch.cat([ids, torch.tensor([[out[-1]]])], dim=1)
        greedy.append(out)
    return values, greedy


def distance(a, b):
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max())
