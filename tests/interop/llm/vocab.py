"""Tokenizer files of a repository, rebuilt from the vocabularies llama.cpp keeps in its tree.

llama.cpp's `models/ggml-vocab-*.gguf` hold real vocabularies with merges, scores and types. From
them come `tokenizer.json`, `tokenizer.model` and the files beside them, as the hub's repositories
have them. `write(kind, folder, models)` answers how many rows the embedding needs.
"""

import base64
import json
from functools import lru_cache
from pathlib import Path

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+")

QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")

LLAMA2_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + "
    "message['content'].strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}")
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% endif %}")


@lru_cache(maxsize=2)
def read(path):
    """Keys and values of a vocabulary file."""
    from gguf import GGUFReader
    out = {}
    for key, field in GGUFReader(str(path)).fields.items():
        if key.startswith("GGUF."):
            continue
        kinds = [kind.name for kind in field.types]
        if kinds[0] != "ARRAY":
            out[key] = field.contents()
        elif kinds[-1] == "STRING":
            out[key] = [bytes(field.parts[i]).decode("utf-8", "surrogateescape") for i in field.data]
        else:
            out[key] = [field.parts[i].tolist()[0] for i in field.data]
    return out


def dump(path, value, indent=2):
    Path(path).write_text(json.dumps(value, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")


def added(number, content, special, normalized=False):
    return dict(id=number, content=content, single_word=False, lstrip=False, rstrip=False,
                normalized=normalized, special=special)


def decoder_table(tokens):
    keys = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    return {str(token["id"]): {key: token[key] for key in keys} for token in tokens}


def split(regex):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def byte_level(use_regex, trim=True):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": trim, "use_regex": use_regex}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def surround(before, after=()):
    """A post-processor that puts (token, id) pairs before and after each text."""
    special = lambda pairs, kind: [{"SpecialToken": {"id": token, "type_id": kind}} for token, _ in pairs]
    text = lambda name, kind: [{"Sequence": {"id": name, "type_id": kind}}]
    both = [*before, *after]
    return {"type": "TemplateProcessing",
            "single": special(before, 0) + text("A", 0) + special(after, 0),
            "pair": special(before, 0) + text("A", 0) + special(after, 0)
            + special(before, 1) + text("B", 1) + special(after, 1),
            "special_tokens": {t: {"id": t, "ids": [i], "tokens": [t]} for t, i in both}}


BPE = {
    "llama-bpe": dict(norm=None, pre=sequence(split(GPT4 % "{1,3}"), byte_level(False)), bos=True,
                      ignore_merges=True),
    "qwen2": dict(norm={"type": "NFC"}, pre=sequence(split(GPT4 % ""), byte_level(False, False))),
    "gpt-2": dict(norm=None, pre=byte_level(True)),
}


def bpe_tokenizer(vocab, family, extra=()):
    """tokenizer.json of a byte-level BPE vocabulary; `extra` are special tokens past the last."""
    how = BPE[family]
    tokens, types = vocab["tokenizer.ggml.tokens"], vocab["tokenizer.ggml.token_type"]
    ends = {vocab.get("tokenizer.ggml.bos_token_id"), vocab.get("tokenizer.ggml.eos_token_id")}
    base, more = {}, []
    for number, (token, kind) in enumerate(zip(tokens, types)):
        if kind == CONTROL or number in ends:
            more.append(added(number, token, True))
        elif kind == USER:
            more.append(added(number, token, False, normalized=True))
        elif kind != UNUSED and not token.startswith("[PAD"):
            base[token] = number
    if family == "gpt-2":  # keeps its special token in the base vocabulary as well
        base.update({token["content"]: token["id"] for token in more if token["special"]})
    have = {token["id"] for token in more}
    more += [added(number, token, True) for number, token in extra if number not in have]
    more.sort(key=lambda token: token["id"])
    after = byte_level(True) if family == "gpt-2" else byte_level(False, False)
    if how.get("bos"):
        bos = vocab["tokenizer.ggml.bos_token_id"]
        after = {"type": "Sequence", "processors": [byte_level(True), surround([(tokens[bos], bos)])]}
    empty = "" if family == "gpt-2" else None
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": more,
        "normalizer": how["norm"], "pre_tokenizer": how["pre"], "post_processor": after,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": empty,
                  "end_of_word_suffix": empty, "fuse_unk": False, "byte_fallback": False,
                  "ignore_merges": how.get("ignore_merges", False),
                  "vocab": dict(sorted(base.items(), key=lambda item: item[1])),
                  "merges": [merge.split(" ") for merge in vocab["tokenizer.ggml.merges"]]},
    }


def spm_model(vocab, count, dummy_prefix=True):
    """A serialized SentencePiece model: BPE with byte fallback, no normalization."""
    from sentencepiece import sentencepiece_model_pb2 as proto
    model = proto.ModelProto()
    kinds = proto.ModelProto.SentencePiece
    kind_of = {NORMAL: kinds.NORMAL, UNKNOWN: kinds.UNKNOWN, CONTROL: kinds.CONTROL,
               USER: kinds.USER_DEFINED, UNUSED: kinds.UNUSED, BYTE: kinds.BYTE}
    tokens, types = vocab["tokenizer.ggml.tokens"], vocab["tokenizer.ggml.token_type"]
    for number in range(count):
        kind = {0: UNKNOWN, 1: CONTROL, 2: CONTROL}.get(number, types[number])
        score = 0.0 if kind in (UNKNOWN, CONTROL) else vocab["tokenizer.ggml.scores"][number]
        model.pieces.add(piece=tokens[number], score=score, type=kind_of[kind])
    trainer = model.trainer_spec
    trainer.model_type = proto.TrainerSpec.BPE
    trainer.vocab_size = count
    trainer.split_digits = True
    trainer.allow_whitespace_only_pieces = True
    trainer.byte_fallback = True
    trainer.unk_id, trainer.bos_id, trainer.eos_id, trainer.pad_id = 0, 1, 2, -1
    trainer.unk_piece, trainer.bos_piece, trainer.eos_piece = tokens[0], tokens[1], tokens[2]
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.precompiled_charsmap = b""
    model.normalizer_spec.add_dummy_prefix = dummy_prefix
    model.normalizer_spec.remove_extra_whitespaces = False
    return model.SerializeToString(deterministic=True)


def spm_merges(vocab, count):
    """The merges transformers derives from scores."""
    tokens, types = vocab["tokenizer.ggml.tokens"], vocab["tokenizer.ggml.token_type"]
    scores = vocab["tokenizer.ggml.scores"]
    ids = {tokens[i]: i for i in range(count) if types[i] in (NORMAL, USER)}
    found = []
    for piece, number in ids.items():
        pairs = [(piece[:k], piece[k:]) for k in range(1, len(piece)) if piece[:k] in ids and piece[k:] in ids]
        pairs.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        found.extend((left, right, scores[number]) for left, right in pairs)
    found.sort(key=lambda merge: merge[2], reverse=True)
    return [[left, right] for left, right, _ in found]


def spm_tokenizer(vocab, count, tokens, prefix=True):
    pieces = vocab["tokenizer.ggml.tokens"]
    norm = [{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    back = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
    if prefix:
        norm.insert(0, {"type": "Prepend", "prepend": "▁"})
        back.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens,
        "normalizer": {"type": "Sequence", "normalizers": norm}, "pre_tokenizer": None,
        "post_processor": surround([("<s>", 1)]), "decoder": {"type": "Sequence", "decoders": back},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": {pieces[i]: i for i in range(count)}, "merges": spm_merges(vocab, count)},
    }


def wordpiece_words(vocab):
    """llama.cpp marks the start of a word and strips `##`: the other way round."""
    out = []
    for token, kind in zip(vocab["tokenizer.ggml.tokens"], vocab["tokenizer.ggml.token_type"]):
        if kind == CONTROL or (token.startswith("[") and token.endswith("]") and len(token) > 2):
            out.append(token)
        else:
            out.append(token[1:] if token.startswith("▁") else "##" + token)
    return out


# ------------------------------------------------------------------------------ a folder's files

def llama3(out, vocab):
    json_ = bpe_tokenizer(vocab, "llama-bpe")
    json_["model"]["merges"] = [" ".join(merge) for merge in json_["model"]["merges"]]  # as older files
    dump(out / "tokenizer.json", json_)
    dump(out / "tokenizer_config.json", {
        "added_tokens_decoder": decoder_table(json_["added_tokens"]), "bos_token": "<|begin_of_text|>",
        "clean_up_tokenization_spaces": True, "eos_token": "<|end_of_text|>",
        "chat_template": "{{ bos_token }}" + CHATML,
        "model_input_names": ["input_ids", "attention_mask"], "model_max_length": 131072,
        "tokenizer_class": "PreTrainedTokenizerFast"})
    dump(out / "special_tokens_map.json", {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"})
    return 128256


def qwen2(out, vocab):
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    json_ = bpe_tokenizer(vocab, "qwen2", extra=list(enumerate(names, 151643)))
    dump(out / "tokenizer.json", json_)
    dump(out / "tokenizer_config.json", {
        "add_prefix_space": False, "added_tokens_decoder": decoder_table(json_["added_tokens"]),
        "additional_special_tokens": names[1:], "bos_token": None, "chat_template": CHATML,
        "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>", "errors": "replace",
        "model_max_length": 32768, "pad_token": "<|endoftext|>", "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer", "unk_token": None})
    (out / "merges.txt").write_text("\n".join(" ".join(m) for m in json_["model"]["merges"]) + "\n", encoding="utf-8")
    dump(out / "vocab.json", json_["model"]["vocab"], indent=None)
    return 151936


def gpt2(out, vocab, extra=(), **config):
    json_ = bpe_tokenizer(vocab, "gpt-2", extra=extra)
    dump(out / "tokenizer.json", json_)
    end = "<|endoftext|>"
    dump(out / "tokenizer_config.json", {
        "model_max_length": 1024, "tokenizer_class": "GPT2Tokenizer", "bos_token": end, "eos_token": end,
        "unk_token": end, "add_prefix_space": False, **config})
    (out / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(vocab["tokenizer.ggml.merges"]) + "\n", encoding="utf-8")
    dump(out / "vocab.json", json_["model"]["vocab"], indent=None)
    return 50257 + len(extra)


def chat(out, vocab):
    """GPT-2's vocabulary with the marks of a chat model, as many families have them."""
    names = ["<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "[gMASK]", "<|observation|>", "<pad>"]
    extra = list(enumerate(names, 50257))
    end = [(50256, "<|endoftext|>")]
    return gpt2(out, vocab, extra, chat_template=CHATML, tokenizer_class="PreTrainedTokenizerFast",
                added_tokens_decoder=decoder_table([added(i, t, True) for i, t in end + extra]))


def qwen35(out, vocab):
    """`chat`, split as Qwen 3.5 splits: its own vocabulary has a quarter of a million tokens."""
    rows = chat(out, vocab)
    json_ = json.loads((out / "tokenizer.json").read_text(encoding="utf-8"))
    dump(out / "tokenizer.json", dict(
        json_, normalizer={"type": "NFC"}, pre_tokenizer=sequence(split(QWEN35), byte_level(False, False))))
    config = json.loads((out / "tokenizer_config.json").read_text(encoding="utf-8"))
    dump(out / "tokenizer_config.json", dict(config, tokenizer_class="Qwen3_5Tokenizer"))
    return rows


def roberta(out, vocab):
    """GPT-2's vocabulary numbered as RoBERTa has it: four special tokens first, `<mask>` last."""
    base = [t for t in bpe_tokenizer(vocab, "gpt-2")["model"]["vocab"] if t != "<|endoftext|>"]
    heads = ["<s>", "<pad>", "</s>", "<unk>"]
    names = heads + base + ["<mask>"]
    json_ = bpe_tokenizer(vocab, "gpt-2")
    json_["model"]["vocab"] = {token: number for number, token in enumerate(names)}
    json_["added_tokens"] = [added(i, t, True) for i, t in enumerate(heads)]
    json_["added_tokens"].append(dict(added(len(names) - 1, "<mask>", True), lstrip=True))
    json_["post_processor"] = {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0],
                               "trim_offsets": True, "add_prefix_space": False}
    dump(out / "tokenizer.json", json_)
    dump(out / "tokenizer_config.json", {
        "add_prefix_space": False, "bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>",
        "mask_token": "<mask>", "model_max_length": 512, "pad_token": "<pad>", "sep_token": "</s>",
        "tokenizer_class": "RobertaTokenizer", "unk_token": "<unk>"})
    (out / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(vocab["tokenizer.ggml.merges"]) + "\n", encoding="utf-8")
    dump(out / "vocab.json", json_["model"]["vocab"], indent=None)
    return len(names)


def llama2(out, vocab, prefix=True, **config):
    (out / "tokenizer.model").write_bytes(spm_model(vocab, 32000, dummy_prefix=prefix))
    tokens = [added(0, "<unk>", True), added(1, "<s>", True), added(2, "</s>", True)]
    dump(out / "tokenizer.json", spm_tokenizer(vocab, 32000, tokens, prefix))
    dump(out / "tokenizer_config.json", {
        "add_bos_token": True, "add_eos_token": False, "bos_token": "<s>", "chat_template": LLAMA2_TEMPLATE,
        "clean_up_tokenization_spaces": False, "eos_token": "</s>", "legacy": False,
        "model_max_length": 1000000000000000019884624838656, "pad_token": None, "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>", **config})
    dump(out / "special_tokens_map.json", {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})
    return 32000


def noprefix(out, vocab):
    """The same pieces without the space put before a text, as Gemma's vocabularies are."""
    return llama2(out, vocab, prefix=False, tokenizer_class="PreTrainedTokenizerFast")


def bert(out, vocab):
    words = wordpiece_words(vocab)
    (out / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    ids = {word: number for number, word in enumerate(words)}
    special = [added(ids[t], t, True) for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
    dump(out / "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": surround([("[CLS]", ids["[CLS]"])], [("[SEP]", ids["[SEP]"])]),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": ids}})
    dump(out / "tokenizer_config.json", {
        "added_tokens_decoder": decoder_table(special), "clean_up_tokenization_spaces": True,
        "cls_token": "[CLS]", "do_lower_case": True, "mask_token": "[MASK]", "model_max_length": 512,
        "pad_token": "[PAD]", "sep_token": "[SEP]", "strip_accents": None,
        "tokenize_chinese_chars": True, "tokenizer_class": "BertTokenizer", "unk_token": "[UNK]"})
    dump(out / "special_tokens_map.json", {
        "cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]", "sep_token": "[SEP]",
        "unk_token": "[UNK]"})
    return len(words)


UNIGRAM_ROWS = 40000


def unigram(out, vocab):
    """The first pieces of XLM-RoBERTa's Unigram vocabulary, its character map, and `<mask>` last."""
    tokens, scores = vocab["tokenizer.ggml.tokens"], vocab["tokenizer.ggml.scores"]
    rows = UNIGRAM_ROWS
    pieces = [[tokens[i], scores[i]] for i in range(rows - 1)] + [["<mask>", 0.0]]
    charsmap = bytes(value & 255 for value in vocab["tokenizer.ggml.precompiled_charsmap"])
    special = [added(i, t, True) for i, t in enumerate(["<s>", "<pad>", "</s>", "<unk>"])]
    special.append(dict(added(rows - 1, "<mask>", True), lstrip=True))
    dump(out / "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()},
        "pre_tokenizer": sequence({"type": "WhitespaceSplit"}, {
            "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}),
        "post_processor": surround([("<s>", 0)], [("</s>", 2)]),
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "model": {"type": "Unigram", "unk_id": 3, "byte_fallback": False, "vocab": pieces}})
    dump(out / "tokenizer_config.json", {
        "bos_token": "<s>", "clean_up_tokenization_spaces": True, "cls_token": "<s>", "eos_token": "</s>",
        "mask_token": "<mask>", "model_max_length": 512, "pad_token": "<pad>", "sep_token": "</s>",
        "tokenizer_class": "XLMRobertaTokenizer", "unk_token": "<unk>"})
    return rows


# Name of the recipe: (the file it is made of, what writes it, bos, eos, pad).
KINDS = {
    "llama3": ("llama-bpe", llama3, 128000, 128001, None),
    "qwen2": ("qwen2", qwen2, None, 151645, 151643),
    "gpt2": ("gpt-2", gpt2, 50256, 50256, None),
    "chat": ("gpt-2", chat, 50256, 50256, 50263),
    "qwen35": ("gpt-2", qwen35, 50256, 50256, 50263),
    "roberta": ("gpt-2", roberta, 0, 2, 1),
    "llama2": ("llama-spm", llama2, 1, 2, 0),
    "noprefix": ("llama-spm", noprefix, 1, 2, 0),
    "bert": ("bert-bge", bert, None, None, 0),
    "unigram": ("nomic-bert-moe", unigram, 0, 2, 1),
}


def write(kind, folder, models):
    """Writes a recipe's files; answers rows, bos, eos and pad."""
    name, recipe, *ends = KINDS[kind]
    rows = recipe(Path(folder), read(Path(models) / f"ggml-vocab-{name}.gguf"))
    return (rows, *ends)
