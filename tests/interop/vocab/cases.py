"""Small tokenizers of every kind, made here: nothing of a published model is in them.

Each case is a class of the converter, a config, and the files of its repository. Vocabularies are
trained on the text below, which is this project's own.
"""

import json
import tempfile
from pathlib import Path

TEXT = """The weightbridge weighs a lorry twice: once laden, once empty. 12 tonnes, 3.5 tonnes, 1024 kg.
It's what we'll do, they've said; I'm sure you'd agree. "Quotes", (brackets), [lists], {maps}!
def weigh(load):\n    if load > 40_000:\n        return None\n    return load * 9.81  # newtons
Die Waage wiegt; Gr\u00f6\u00dfe und Ma\u00df. La b\u00e1scula pesa \u00bfcu\u00e1nto? \u0412\u0435\u0441\u044b \u0432\u0437\u0432\u0435\u0448\u0438\u0432\u0430\u044e\u0442 \u0433\u0440\u0443\u0437\u043e\u0432\u0438\u043a.
\u6211\u60f3\u5728\u8fd9\u91cc\u79f0\u91cd\u3002 \u8a08\u91cf\u53f0 \ud55c\uad6d\uc5b4 \u0e19\u0e49\u0e33\u0e2b\u0e19\u0e31\u0e01 \U0001f69a\U0001f9ca  \t two  spaces   three
"""
CHATML = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}")
LLAMA = dict(architectures=["LlamaForCausalLM"], model_type="llama", bos_token_id=1, eos_token_id=2)


def added(i, content, special=True, normalized=False, **more):
    one = dict(id=i, content=content, single_word=False, lstrip=False, rstrip=False,
               normalized=normalized, special=special)
    one.update(more)
    return one


def config_of(cls, model_type, vocab_size, **more):
    return dict(architectures=[cls], model_type=model_type, vocab_size=vocab_size, **more)


def byte_bpe(size=420, regex=None, nfc=False, digits=False):
    """A trained byte-level BPE as tokenizer.json, without added tokens."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from tokenizers import decoders

    tok = Tokenizer(models.BPE())
    if nfc:
        tok.normalizer = normalizers.NFC()
    steps = [pre_tokenizers.Split(Regex(regex), "isolated")] if regex else []
    if digits:
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not regex))
    tok.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tok.train_from_iterator([TEXT], trainer)
    made = json.loads(tok.to_str())
    made["post_processor"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False,
                              "use_regex": True}
    return made


def add(made, tokens):
    """Adds tokens at the end: (text, special, normalized)."""
    first = len(made["model"]["vocab"])
    for at, (text, special, normalized) in enumerate(tokens):
        made["added_tokens"].append(added(first + at, text, special, normalized))
    return {text: first + at for at, (text, _, _) in enumerate(tokens)}


def template(before=None, after=None):
    """A TemplateProcessing; (token, id) before and after."""
    sp = lambda t, k: {"SpecialToken": {"id": t[0], "type_id": k}}
    seq = lambda n, k: {"Sequence": {"id": n, "type_id": k}}
    single = ([sp(before, 0)] if before else []) + [seq("A", 0)] + ([sp(after, 0)] if after else [])
    pair = single + ([sp(before, 1)] if before else []) + [seq("B", 1)] + ([sp(after, 1)] if after else [])
    names = {t[0]: {"id": t[0], "ids": [t[1]], "tokens": [t[0]]} for t in (before, after) if t}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": names}


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")


def spm(kind="bpe", size=480, rules=None, **more):
    """A trained SentencePiece model."""
    import sentencepiece

    with tempfile.TemporaryDirectory() as tmp:
        text = Path(tmp) / "text"
        text.write_text("\n".join(TEXT.split("\n")), encoding="utf-8")
        options = dict(input=str(text), model_prefix=f"{tmp}/m", model_type=kind, vocab_size=size,
                       character_coverage=1.0, hard_vocab_limit=False, num_threads=1, minloglevel=2,
                       byte_fallback=kind == "bpe", normalization_rule_name="identity")
        if rules:
            tsv = Path(tmp) / "rules.tsv"
            tsv.write_text(rules, encoding="utf-8")
            options.pop("normalization_rule_name")
            options["normalization_rule_tsv"] = str(tsv)
        options.update(more)
        sentencepiece.SentencePieceTrainer.train(**options)
        return (Path(tmp) / "m.model").read_bytes()


def pieces(model):
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [(processor.IdToPiece(i), processor.GetScore(i)) for i in range(processor.vocab_size())]


def spm_json(model, more=()):
    """A SentencePiece BPE as tokenizer.json, as transformers converts it."""
    own = pieces(model)
    ids = {p: i for i, (p, _) in enumerate(own)}
    normal = {p for i, (p, _) in enumerate(own) if i > 2 and not p.startswith("<0x")}
    merges = []
    for piece, score in own:
        if piece not in normal:
            continue
        local = [(piece[:k], piece[k:]) for k in range(1, len(piece))
                 if piece[:k] in normal and piece[k:] in normal]
        local.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        merges += [(a, b, score) for a, b in local]
    merges.sort(key=lambda m: m[2], reverse=True)
    tokens = [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")]
    tokens += [added(len(own) + at, *one) for at, one in enumerate(more)]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
        "pre_tokenizer": None, "post_processor": template(("<s>", 1)),
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True,
                  "ignore_merges": False, "vocab": ids, "merges": [[a, b] for a, b, _ in merges]},
    }


def wordpiece(size=300):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=True)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tok.train_from_iterator([TEXT], trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=special, show_progress=False))
    made = json.loads(tok.to_str())
    made["post_processor"] = template(("[CLS]", 2), ("[SEP]", 3))
    made["post_processor"]["pair"].pop(3)
    made["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    return made


def unigram_json(model):
    """XLM-RoBERTa's order of special tokens over a Unigram model."""
    import base64

    from sentencepiece import sentencepiece_model_pb2 as pb

    proto = pb.ModelProto()
    proto.ParseFromString(model)
    own = pieces(model)[3:]
    vocab = [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0]] + [list(p) for p in own]
    vocab.append(["<mask>", 0.0])
    tokens = [added(i, vocab[i][0]) for i in range(4)] + [added(len(vocab) - 1, "<mask>", lstrip=True)]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens,
        "normalizer": {"type": "Precompiled", "precompiled_charsmap":
                       base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
        "post_processor": template(("<s>", 0), ("</s>", 2)),
        "decoder": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
        "model": {"type": "Unigram", "unk_id": 3, "vocab": vocab, "byte_fallback": False},
    }


RULES = "FF21\t41\nFF22\t42\n2460\t31\n0065 0301\tE9\n"
FAST = {"tokenizer_class": "PreTrainedTokenizerFast"}


def bpe_cases():
    made = byte_bpe(regex=LLAMA3)
    made["model"]["ignore_merges"] = True
    ids = add(made, [("<|begin_of_text|>", True, False), ("<|end_of_text|>", True, False),
                     ("<|eot_id|>", True, False), ("<tool>", False, False), ("\u2581\u2581", False, True),
                     ("caf\u00e9 x", False, False), ("<|looks|>", False, False)])
    bos = ("<|begin_of_text|>", ids["<|begin_of_text|>"])
    made["post_processor"] = {"type": "Sequence", "processors": [made["post_processor"], template(bos)]}
    old = json.loads(json.dumps(made))
    old["model"]["merges"] = [" ".join(m) for m in old["model"]["merges"]]
    n = len(made["model"]["vocab"]) + 7
    yield dict(name="bpe-llama3", cls="LlamaForCausalLM", pre="llama-bpe",
               config=config_of("LlamaForCausalLM", "llama", n, bos_token_id=bos[1], eos_token_id=[bos[1] + 1, bos[1] + 2]),
               files={"tokenizer.json": old,
                      "tokenizer_config.json": {**FAST, "bos_token": bos[0], "eos_token": "<|eot_id|>"},
                      "chat_template.jinja": "{{ bos_token }}<|eot_id|>",
                      "generation_config.json": {"eos_token_id": [bos[1] + 1]}})

    made = byte_bpe(regex=QWEN2, nfc=True)
    ids = add(made, [("<|endoftext|>", True, False), ("<|im_start|>", True, False), ("<|im_end|>", True, False),
                     ("<tool_call>", False, False)])
    n = len(made["model"]["vocab"]) + 4
    yield dict(name="bpe-qwen2", cls="Qwen2ForCausalLM", pre="qwen2",
               config=config_of("Qwen2ForCausalLM", "qwen2", n + 9, eos_token_id=ids["<|im_end|>"],
                                bos_token_id=ids["<|endoftext|>"]),
               files={"tokenizer.json": made,
                      "tokenizer_config.json": {**FAST, "add_bos_token": False, "bos_token": None, "eos_token": "<|im_end|>",
                                                "pad_token": "<|endoftext|>", "chat_template": [
                                                    {"name": "default", "template": CHATML},
                                                    {"name": "tool use", "template": CHATML + "x"}]}})

    made = byte_bpe()
    made["model"]["merges"] = [" ".join(m) for m in made["model"]["merges"]]
    vocab = {**made["model"]["vocab"], "<|endoftext|>": len(made["model"]["vocab"])}
    yield dict(name="bpe-gpt2-old", cls="GPT2LMHeadModel", pre="gpt-2",
               config=config_of("GPT2LMHeadModel", "gpt2", len(vocab), eos_token_id=len(vocab) - 1),
               files={"vocab.json": vocab, "merges.txt": "#version: 0.2\n" + "\n".join(made["model"]["merges"]) + "\n",
                      "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|endoftext|>",
                                                "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}})

    made = byte_bpe(digits=True)
    ids = add(made, [("<s>", True, False), ("</s>", True, False), ("<pad>", False, False)])
    n = len(made["model"]["vocab"]) + 3
    # the config's tokens are objects, as older repositories have them
    old = {"__type": "AddedToken", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    made["post_processor"] = template(("<s>", ids["<s>"]), ("</s>", ids["</s>"]))
    yield dict(name="bpe-objects", cls="Starcoder2ForCausalLM", pre="starcoder",
               config=config_of("Starcoder2ForCausalLM", "starcoder2", n),
               files={"tokenizer.json": made, "tokenizer_config.json": {
                   **FAST, "bos_token": {**old, "content": "<s>"}, "eos_token": {**old, "content": "</s>"},
                   "chat_template": ""}})

    made = byte_bpe()
    ids = add(made, [("<s>", True, False), ("<pad>", True, False), ("</s>", True, False), ("<unk>", True, False),
                     ("<mask>", True, False)])
    made["added_tokens"][-1]["lstrip"] = True
    made["post_processor"] = {"type": "RobertaProcessing", "sep": ["</s>", ids["</s>"]], "cls": ["<s>", ids["<s>"]],
                              "trim_offsets": True, "add_prefix_space": False}
    special = {f"{r}_token": t for r, t in dict(bos="<s>", eos="</s>", unk="<unk>", pad="<pad>", mask="<mask>").items()}
    n = len(made["model"]["vocab"]) + 5
    yield dict(name="bpe-roberta", cls="RobertaModel", pre="roberta-bpe",
               config=config_of("RobertaModel", "roberta", n, type_vocab_size=1, pad_token_id=ids["<pad>"]),
               files={"tokenizer.json": made, "tokenizer_config.json": {**FAST, **special}})

    made = byte_bpe()
    ids = add(made, [("[UNK]", True, False), ("[CLS]", True, False), ("[SEP]", True, False), ("[PAD]", True, False),
                     ("[MASK]", True, False), ("    ", False, True)])
    made["post_processor"] = template(("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"]))
    special = {f"{r}_token": f"[{r.upper()}]" for r in ("cls", "sep", "pad", "unk", "mask")}
    n = len(made["model"]["vocab"]) + 6
    yield dict(name="bpe-modern-bert", cls="ModernBertModel", pre="modern-bert",
               config=config_of("ModernBertModel", "modernbert", n + 3, cls_token_id=ids["[CLS]"]),
               files={"tokenizer.json": made, "tokenizer_config.json": {**FAST, **special}})

    for cls, kind in (("Glm4ForCausalLM", "glm4"), ("Glm4MoeForCausalLM", "glm4_moe")):
        made = byte_bpe(regex=LLAMA3)
        add(made, [(t, True, False) for t in ("<|endoftext|>", "[MASK]", "[gMASK]", "<sop>", "<|user|>", "<|observation|>")])
        n = len(made["model"]["vocab"]) + 6
        yield dict(name=f"bpe-{kind}", cls=cls, pre="glm4",
                   config=config_of(cls, kind, n + 2, eos_token_id=[n - 6, n - 2], pad_token_id=n - 6),
                   files={"tokenizer.json": made, "tokenizer_config.json": {
                       **FAST, "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
                          "chat_template.json": {"chat_template": "[gMASK]<sop>"}})


def spm_cases():
    model = spm(user_defined_symbols="<mid>")
    n = len(pieces(model))
    plain = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    made = spm_json(model, [("<extra>", False), ("<|end|>", True)])
    yield dict(name="spm-llama", cls="LlamaForCausalLM",
               config=config_of("LlamaForCausalLM", "llama", n + 8, bos_token_id=1, eos_token_id=2, pad_token_id=n + 99),
               files={"tokenizer.model": model, "tokenizer.json": made, "added_tokens.json": {"<extra>": n},
                      "tokenizer_config.json": {**plain, "add_bos_token": True, "add_eos_token": True, "add_prefix_space": False,
                                                "chat_template": "{{ bos_token }}", "added_tokens_decoder": {
                                                    str(n + 1): {"content": "<|end|>", "special": True},
                                                    str(n + 2): {"content": "\u2581two\u2581words", "special": False},
                                                    str(n + 50): {"content": "<far>", "special": True}}}})
    yield dict(name="spm-bare", cls="Gemma2ForCausalLM", config=config_of("Gemma2ForCausalLM", "gemma2", n, head_dim=8),
               files={"tokenizer.model": model})
    yield dict(name="spm-gemma", cls="GemmaForCausalLM",
               config=config_of("GemmaForCausalLM", "gemma", n, bos_token_id=1, eos_token_id=2, pad_token_id=0),
               files={"tokenizer.model": model, "tokenizer.json": spm_json(model),
                      "tokenizer_config.json": {**plain, "chat_template": "<end_of_turn>"}})
    yield dict(name="spm-nemotron", cls="NemotronForCausalLM", config=config_of("NemotronForCausalLM", "nemotron", n),
               files={"tokenizer.model": model, "tokenizer_config.json": plain})
    yield dict(name="spm-ernie", cls="Ernie4_5ForCausalLM", config=config_of("Ernie4_5ForCausalLM", "ernie4_5", n),
               files={"tokenizer.model": model, "tokenizer_config.json": {**plain, "add_prefix_space": True}})
    yield dict(name="spm-phi3", cls="Phi3ForCausalLM",
               config=config_of("Phi3ForCausalLM", "phi3", n + 4, pad_token_id=0, bos_token_id=1, eos_token_id=2),
               files={"tokenizer.model": model, "tokenizer.json": spm_json(model, [("<|assistant|>", True), ("<x>", False)]),
                      "tokenizer_config.json": {**plain, "added_tokens_decoder": {"0": {"content": "<unk>", "special": True}}}})
    yield dict(name="hf-llama", cls="LlamaForCausalLM", config=config_of("LlamaForCausalLM", "llama", n + 2),
               files={"tokenizer.json": spm_json(model, [("<extra>", False), ("<|end|>", True)]),
                      "tokenizer_config.json": {**FAST, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
                                                "additional_special_tokens": ["<|end|>"]}})
    made = spm_json(model, [("<|channel>", True), ("<|turn>", True), ("<turn|>", True)])
    made["normalizer"] = made["normalizer"]["normalizers"][1]
    made["decoder"]["decoders"].pop()
    yield dict(name="hf-gemma4", cls="Gemma4ForCausalLM",
               config=config_of("Gemma4ForCausalLM", "gemma4_text", n + 3),
               files={"tokenizer.json": made, "tokenizer_config.json": {
                   **FAST, "bos_token": "<s>", "eos_token": "<turn|>", "unk_token": "<unk>",
                   "extra_special_tokens": ["<|channel>", "<|turn>"]},
                      "chat_template.jinja": "<turn|>"})


def other_cases():
    made = wordpiece()
    n = len(made["model"]["vocab"])
    names = {f"{r}_token": f"[{r.upper()}]" for r in ("cls", "sep", "pad", "unk", "mask")}
    yield dict(name="wordpiece", cls="BertModel", pre="jina-v2-en",
               config=config_of("BertModel", "bert", n + 5, pad_token_id=0),
               files={"tokenizer.json": made, "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", **names}})
    words = sorted(made["model"]["vocab"], key=made["model"]["vocab"].get)
    yield dict(name="wordpiece-txt", cls="BertModel", pre="jina-v2-en", config=config_of("BertModel", "bert", n, type_vocab_size=1),
               files={"vocab.txt": "\n".join(words) + "\n",
                      "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "do_lower_case": True, **names}})
    model = spm("unigram", 220, rules=RULES, unk_id=2, eos_id=1, pad_id=0, bos_id=-1, pad_piece="<pad>")
    n = len(pieces(model))
    yield dict(name="unigram-t5", cls="T5ForConditionalGeneration",
               config=config_of("T5ForConditionalGeneration", "t5", n + 3, eos_token_id=1, pad_token_id=0, decoder_start_token_id=0),
               files={"spiece.model": model, "tokenizer_config.json": {"tokenizer_class": "T5Tokenizer", "eos_token": "</s>",
                                                                      "unk_token": "<unk>", "pad_token": "<pad>"}})
    model = spm("unigram", 220, rules=RULES)
    made = unigram_json(model)
    roles = dict(bos="<s>", eos="</s>", unk="<unk>", pad="<pad>", mask="<mask>", cls="<s>", sep="</s>")
    names = {f"{r}_token": t for r, t in roles.items()}
    for name, more in (("unigram-xlm", {"tokenizer_class": "XLMRobertaTokenizer", "clean_up_tokenization_spaces": True}),
                       ("unigram-xlm-fast", dict(FAST))):
        yield dict(name=name, cls="XLMRobertaModel",
                   config=config_of("XLMRobertaModel", "xlm-roberta", len(made["model"]["vocab"]), type_vocab_size=1, pad_token_id=1,
                                    bos_token_id=0, eos_token_id=2),
                   files={"tokenizer.json": made, "tokenizer_config.json": {**more, **names}})
    yield dict(name="unigram-xlm-spm", cls="XLMRobertaModel",
               config=config_of("XLMRobertaModel", "xlm-roberta", len(made["model"]["vocab"]), type_vocab_size=1, pad_token_id=1),
               files={"sentencepiece.bpe.model": model, "tokenizer_config.json": {"tokenizer_class": "XLMRobertaTokenizer", **names}})


def cases():
    yield from bpe_cases()
    yield from spm_cases()
    yield from other_cases()


def write(case, folder):
    """The case's repository."""
    folder = Path(folder)
    for name, content in {**case["files"], "config.json": case["config"]}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        else:
            path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
