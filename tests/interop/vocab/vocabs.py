"""Repositories rebuilt from the vocabularies in llama.cpp's models/ folder (MIT licence).

Those files hold tokens, types, scores and merges of published tokenizers; here they become
tokenizer.json, tokenizer.model or vocab.txt again, in the form of the model they are of. Each is
sound if it gives the ids of the .inp/.out files beside it, which `test_vocab.py` looks at.
"""

import json
from pathlib import Path

import cases
from cases import added, template

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

GPT2 = None  # ByteLevel's own
FAMILIES = {
    # name: (class, model_type, regexes, NFC, ignore_merges, puts bos before, the name the table gives)
    "llama-bpe": ("LlamaForCausalLM", "llama", [cases.LLAMA3], False, True, True, "llama-bpe"),
    "qwen2": ("Qwen2ForCausalLM", "qwen2", [cases.QWEN2], True, False, False, "qwen2"),
    "qwen35": ("Qwen3_5ForCausalLM", "qwen3_5_text", [
        cases.QWEN2.replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]")],
        True, False, False, "qwen35"),
    "gpt-2": ("GPT2LMHeadModel", "gpt2", [GPT2], False, False, False, "gpt-2"),
    "gpt-neox": ("GPTNeoXForCausalLM", "gpt_neox", [GPT2], True, False, False, "olmo"),
    "starcoder": ("Starcoder2ForCausalLM", "starcoder2", ["DIGITS", GPT2], False, False, False, "starcoder"),
    "refact": ("Starcoder2ForCausalLM", "starcoder2", ["DIGITS", GPT2], False, False, False, "refact"),
    "command-r": ("CohereForCausalLM", "cohere", ["DIGITS", GPT2], True, False, True, "command-r"),
    "falcon": ("FalconForCausalLM", "falcon", ["PUNCT", GPT2, "[0-9][0-9][0-9]"], False, False, False, "falcon"),
}


def read(path):
    from gguf import GGUFReader

    out = {}
    for key, field in GGUFReader(str(path)).fields.items():
        kinds = [kind.name for kind in field.types]
        if not kinds or key.startswith("GGUF."):
            continue
        if kinds[0] == "ARRAY" and kinds[-1] == "STRING":
            out[key] = [bytes(field.parts[i]).decode("utf-8") for i in field.data]
        elif kinds[0] == "ARRAY":
            out[key] = [field.parts[i].tolist()[0] for i in field.data]
        else:
            out[key] = field.contents()
    return out


def split(regex):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def bl(use_regex):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def pre_tokenizer(regexes):
    steps = []
    for regex in regexes:
        if regex is GPT2:
            steps.append(bl(True))
        elif regex == "DIGITS":
            steps.append({"type": "Digits", "individual_digits": True})
        elif regex == "PUNCT":
            steps.append({"type": "Punctuation", "behavior": "Contiguous"})
        elif regex == "[0-9][0-9][0-9]":
            steps.append(split(regex))
        else:
            steps.append(split(regex))
    if GPT2 not in regexes:
        steps.append(bl(False))
    return steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps}


def bpe(vocab, name):
    cls, kind, regexes, nfc, ignore, puts_bos, _ = FAMILIES[name]
    tokens, types = vocab["tokenizer.ggml.tokens"], vocab["tokenizer.ggml.token_type"]
    bos = vocab.get("tokenizer.ggml.bos_token_id")
    eos = vocab.get("tokenizer.ggml.eos_token_id")
    words, more = {}, []
    for i, (token, type_) in enumerate(zip(tokens, types)):
        if type_ == CONTROL or i in (bos, eos):
            more.append(added(i, token))
        elif type_ == USER:
            more.append(added(i, token, special=False, normalized=True))
        elif type_ == UNUSED or token.startswith("[PAD"):
            continue
        words[token] = i
    post = bl(True)
    if puts_bos:
        post = {"type": "Sequence", "processors": [bl(True), template((tokens[bos], bos))]}
    made = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": more,
        "normalizer": {"type": "NFC"} if nfc else None, "pre_tokenizer": pre_tokenizer(regexes),
        "post_processor": post, "decoder": bl(True),
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "ignore_merges": ignore, "vocab": words,
                  "merges": [m.split(" ", 1) for m in vocab["tokenizer.ggml.merges"]]},
    }
    config = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for role, token in (("bos", bos), ("eos", eos)):
        if token is not None:
            config[f"{role}_token"] = tokens[token]
    own = dict(architectures=[cls], model_type=kind, vocab_size=len(tokens), bos_token_id=bos, eos_token_id=eos)
    return dict(cls=cls, config=own, files={"tokenizer.json": made, "tokenizer_config.json": config})


def spm(vocab, cls, kind):
    from sentencepiece import sentencepiece_model_pb2 as pb

    tokens, types = vocab["tokenizer.ggml.tokens"], vocab["tokenizer.ggml.token_type"]
    n = 32000
    model = pb.ModelProto()
    for i in range(n):
        piece = model.pieces.add()
        piece.piece, piece.score = tokens[i], vocab["tokenizer.ggml.scores"][i]
        piece.type = {0: 2, 1: 3, 2: 3}.get(i, types[i])
    model.trainer_spec.model_type = pb.TrainerSpec.BPE
    model.trainer_spec.vocab_size = n
    model.trainer_spec.byte_fallback = True
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.remove_extra_whitespaces = False
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
              "add_bos_token": True, "add_eos_token": False}
    more = {str(i): {"content": tokens[i], "special": True} for i in range(n, len(tokens)) if types[i] == CONTROL}
    if more:
        config["added_tokens_decoder"] = more
    own = dict(architectures=[cls], model_type=kind, vocab_size=len(tokens), bos_token_id=1, eos_token_id=2, pad_token_id=0)
    return dict(cls=cls, config=own, files={"tokenizer.model": model.SerializeToString(deterministic=True),
                                            "tokenizer_config.json": config})


def gemma4(vocab):
    tokens, types = vocab["tokenizer.ggml.tokens"], vocab["tokenizer.ggml.token_type"]
    more = [added(i, t, special=types[i] == CONTROL) for i, t in enumerate(tokens) if types[i] in (CONTROL, USER, UNKNOWN)]
    role = lambda name: tokens[vocab[f"tokenizer.ggml.{name}_token_id"]]
    made = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": more,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
        "post_processor": template((role("bos"), vocab["tokenizer.ggml.bos_token_id"])),
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": {t: i for i, t in enumerate(tokens)},
                  "merges": [m.split(" ", 1) for m in vocab["tokenizer.ggml.merges"]]},
    }
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": role("bos"), "eos_token": role("eos"),
              "unk_token": "<unk>", "additional_special_tokens": [t for i, t in enumerate(tokens) if types[i] == CONTROL]}
    own = dict(architectures=["Gemma4ForCausalLM"], model_type="gemma4_text", vocab_size=len(tokens))
    return dict(cls="Gemma4ForCausalLM", config=own, files={"tokenizer.json": made, "tokenizer_config.json": config})


def bert(vocab):
    words = []
    for token, type_ in zip(vocab["tokenizer.ggml.tokens"], vocab["tokenizer.ggml.token_type"]):
        special = type_ == CONTROL or (token.startswith("[") and token.endswith("]") and len(token) > 2)
        words.append(token if special else token[1:] if token.startswith("\u2581") else "##" + token)
    ids = {w: i for i, w in enumerate(words)}
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    post = template(("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"]))
    post["pair"].pop(3)
    made = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [added(ids[s], s) for s in special],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": post,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": ids},
    }
    config = {"tokenizer_class": "BertTokenizer", **{f"{s[1:-1].lower()}_token": s for s in special}}
    own = dict(architectures=["BertModel"], model_type="bert", vocab_size=len(words), pad_token_id=0, type_vocab_size=2)
    return dict(cls="BertModel", config=own, files={"tokenizer.json": made, "tokenizer_config.json": config})


NAMES = [*FAMILIES, "llama-spm", "phi-3", "gemma-4", "bert-bge"]


def repository(llama_cpp, name):
    vocab = read(Path(llama_cpp) / "models" / f"ggml-vocab-{name}.gguf")
    if name == "llama-spm":
        return spm(vocab, "LlamaForCausalLM", "llama")
    if name == "phi-3":
        return spm(vocab, "Phi3ForCausalLM", "phi3")
    if name == "gemma-4":
        return gemma4(vocab)
    if name == "bert-bge":
        return bert(vocab)
    return bpe(vocab, name)


def published(llama_cpp, name):
    """Texts and ids that llama.cpp keeps beside a vocabulary."""
    path = Path(llama_cpp) / "models" / f"ggml-vocab-{name}.gguf"
    if not Path(f"{path}.inp").exists():
        return []
    texts = Path(f"{path}.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    lines = Path(f"{path}.out").read_text(encoding="utf-8").split("\n")
    return [(t, [int(i) for i in line.split()]) for t, line in zip(texts, lines)]


if __name__ == "__main__":
    import sys

    case = repository(sys.argv[1], sys.argv[2])
    cases.write(case, sys.argv[3])
    print(json.dumps(case["config"]))
