"""Harmless ONNX graphs: what PyTorch's exporter makes of models that people use, tiny and untrained."""

import io
import warnings

import onnx
import torch
import transformers as hf
from torch import nn

WIDTHS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
TEXT = {**WIDTHS, "vocab_size": 64, "max_position_embeddings": 32}
DECODER = {**TEXT, "num_key_value_heads": 1, "pad_token_id": 0}
IMAGE = {**WIDTHS, "image_size": 32, "patch_size": 8}
GPT2 = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 64, "n_positions": 32, "pad_token_id": 0}
BART = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "vocab_size": 64,
        "max_position_embeddings": 32}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "vocab_size": 64}

# Of each kind those that compare what they are fed: with padding, with the token that ends a text or
# stands for an image, with zero in masks.
TEXTS = {
    "bert": ("BertModel", TEXT), "bert_classes": ("BertForSequenceClassification", TEXT),
    "bert_answers": ("BertForQuestionAnswering", TEXT), "roberta": ("RobertaModel", TEXT),
    "xlm_roberta_tokens": ("XLMRobertaForTokenClassification", TEXT), "mpnet": ("MPNetModel", TEXT),
    "esm": ("EsmModel", {**TEXT, "mask_token_id": 32, "pad_token_id": 1, "token_dropout": True,
                         "position_embedding_type": "rotary"}),
    "deberta": ("DebertaV2Model", {**TEXT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    "gpt2": ("GPT2LMHeadModel", GPT2), "gpt2_classes": ("GPT2ForSequenceClassification", GPT2),
    "llama": ("LlamaForCausalLM", DECODER), "llama_classes": ("LlamaForSequenceClassification", DECODER),
    "mistral_window": ("MistralForCausalLM", {**DECODER, "sliding_window": 4}),
    "gemma2": ("Gemma2ForCausalLM", {**DECODER, "head_dim": 8}), "qwen3": ("Qwen3ForCausalLM", {**DECODER, "head_dim": 8}),
    "opt": ("OPTForCausalLM", {**WIDTHS, "vocab_size": 64, "ffn_dim": 32, "max_position_embeddings": 32,
                               "word_embed_proj_dim": 16}),
    "bloom": ("BloomForCausalLM", {"hidden_size": 16, "n_layer": 1, "n_head": 2, "vocab_size": 64}),
    "clip_text": ("CLIPTextModel", {**TEXT, "eos_token_id": 49}), "t5_encoder": ("T5EncoderModel", T5),
    "bart_classes": ("BartForSequenceClassification", BART),
}
IMAGES = {
    "vit": ("ViTForImageClassification", IMAGE), "dinov2": ("Dinov2Model", IMAGE),
    "swin": ("SwinModel", {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1],
                           "num_heads": [2, 2], "window_size": 4}),
    "resnet": ("ResNetForImageClassification", {"hidden_sizes": [8] * 4, "depths": [1] * 4, "embedding_size": 8}),
    "yolos": ("YolosForObjectDetection", {**IMAGE, "image_size": [32, 32], "num_detection_tokens": 4}),
}


class Outputs(nn.Module):
    """A model that takes and gives tensors only."""

    def __init__(self, model, names, **options):
        super().__init__()
        self.model, self.names, self.options = model, names, options

    def forward(self, *values):
        given = self.model(**dict(zip(self.names, values)), **self.options)
        return tuple(value for value in given.to_tuple() if isinstance(value, torch.Tensor))


class Detector(nn.Module):
    """Scores, a threshold, the best of them, boxes kept inside the image."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3)
        self.scores, self.boxes = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, image):
        places = self.body(image).relu().flatten(2).transpose(1, 2)[0]
        scores, boxes = self.scores(places).softmax(-1).amax(-1), self.boxes(places)
        best, index = scores.topk(20)
        kept = best > 0.3
        boxes = boxes[index].clamp(0, 32)
        return torch.where(kept[:, None], boxes, torch.zeros_like(boxes)), best[kept]


class Pooled(nn.Module):
    """The mean over what is no padding."""

    def __init__(self):
        super().__init__()
        self.table, self.layer = nn.Embedding(64, 16), nn.Linear(16, 16)

    def forward(self, ids):
        some = (ids != 0).unsqueeze(-1).float()
        return (self.layer(self.table(ids)) * some).sum(1) / some.sum(1).clamp(min=1e-9)


class Clipped(nn.Module):
    """Images brought to a range, and an activation that is written as a choice."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, image):
        image = ((image.clamp(0, 1) - 0.45) / 0.22).nan_to_num(0)
        made = self.layer(image)
        return torch.where(made > 0, made, made * 0.1).mean((2, 3)).sigmoid()


class Placed(nn.Module):
    """An image in the place of the tokens that stand for it."""

    def __init__(self):
        super().__init__()
        self.table, self.layer, self.head = nn.Embedding(64, 16), nn.Linear(24, 16), nn.Linear(16, 64)

    def forward(self, ids, patches):
        here = (ids == 5).unsqueeze(-1)
        rows = torch.where(here, self.layer(patches), self.table(torch.where(ids == 5, 0, ids)))
        return self.head(torch.relu(rows))


class Padded(nn.Module):
    """Rows of padding are zero, positions skip it, and attention does not see it."""

    def __init__(self):
        super().__init__()
        self.table, self.places = nn.Embedding(64, 16, padding_idx=0), nn.Embedding(32, 16)
        self.layer, self.out = nn.Linear(16, 16), nn.Linear(16, 16)
        self.register_buffer("angles", torch.rand(8))

    def forward(self, ids):
        some = ids != 0
        place = torch.cumsum(some.long(), 1) * some.long()
        turn = place[..., None].float() * self.angles
        x = self.layer(self.table(ids) + self.places(place)) + torch.cat([turn.sin(), turn.cos()], -1)
        scores = x @ x.transpose(1, 2) / 4 + (1 - some[:, None].float()) * -10000.0
        x = self.out(scores.softmax(-1) @ x)
        return x * some[..., None].float(), x.masked_fill(~some[..., None], 0.0).sum(1) / some.sum(1, keepdim=True)


class Routed(nn.Module):
    """Experts chosen by what a layer computed, tokens counted, the rest left out."""

    def __init__(self):
        super().__init__()
        self.table, self.gate = nn.Embedding(64, 16), nn.Linear(16, 4)
        self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))

    def forward(self, ids):
        x = self.table(ids)
        weight, chosen = self.gate(x).softmax(-1).topk(2)
        made = torch.zeros_like(x)
        for at, expert in enumerate(self.experts):
            here = (chosen == at).float() * weight
            made = made + expert(x) * here.sum(-1, keepdim=True)
        types = nn.functional.one_hot((ids > 30).long(), 2).float()
        return made, (made @ made.transpose(1, 2)).argmax(-1), types


class Distances(nn.Module):
    """Distances as bumps over a range, cut off smoothly, as networks over atoms have it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("centers", torch.linspace(0, 5, 8))
        self.layer, self.filter = nn.Linear(8, 16), nn.Linear(4, 16)

    def forward(self, distances, features):
        bumps = torch.exp(-10.0 * (distances[..., None] - self.centers) ** 2)
        cut = 0.5 * (torch.cos(distances * 0.6) + 1) * (distances < 5.0).float()
        return (self.layer(bumps) * cut[..., None] * self.filter(features)).sum(1)


class Thresholds(nn.Module):
    """Classifiers of one layer that hold what they gave themselves against a threshold."""

    def __init__(self):
        super().__init__()
        self.head, self.score = nn.Linear(16, 10), nn.Linear(16, 1)

    def forward(self, features):
        logits, score = self.head(features), self.score(features)
        sure = logits.amax(1, keepdim=True) > 0.5
        return (torch.where(logits > 0, logits, 0.0), torch.where(sure, logits, -1.0), sure.any(1), score > 0,
                torch.where(score > 0, score, 0.0), (torch.sigmoid(score) > 0.5).long())


def graph(module, inputs, names):
    """An export with free sizes, as a model."""
    sizes = {name: {0: "batch", 1: "length"} if value.dim() == 2 else {0: "batch"}
             for name, value in zip(names, inputs)}
    data = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), inputs, data, dynamo=False, input_names=list(names),
                          dynamic_axes=sizes, opset_version=17)
    return onnx.load_from_string(data.getvalue())


def write(folder):
    """Writes all of them and answers their paths."""
    torch.manual_seed(0)
    ids, mask = torch.randint(6, 60, (2, 7)), torch.ones(2, 7, dtype=torch.long)
    mask[0, :2] = 0
    ended = ids.clone()
    ended[:, -1] = 2
    image = torch.rand(1, 3, 32, 32)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []

    def add(name, model):
        paths.append(folder / f"{name}.onnx")
        onnx.save(model, paths[-1])

    def made(kind, options):
        kind = getattr(hf, kind)
        return kind(kind.config_class(**options))

    for name, (kind, options) in TEXTS.items():
        fixed = {} if kind in ("EsmModel", "BertModel", "CLIPTextModel") else {"use_cache": False}
        if kind in ("BertForSequenceClassification", "BertForQuestionAnswering", "RobertaModel", "MPNetModel",
                    "XLMRobertaForTokenClassification", "DebertaV2Model", "T5EncoderModel"):
            fixed = {}
        names = ("input_ids", "attention_mask")
        add(name, graph(Outputs(made(kind, options), names, **fixed), (ended, mask), names))
    for name, (kind, options) in IMAGES.items():
        names = ("pixel_values",)
        add(name, graph(Outputs(made(kind, options), names), (image,), names))
    watched = made("BertModel", TEXT)
    watched.set_attn_implementation("eager")
    names = ("input_ids", "attention_mask")
    add("bert_watched", graph(Outputs(watched, names, output_attentions=True, output_hidden_states=True),
                              (ids, mask), names))
    add("detector", graph(Detector(), (image,), ("image",)))
    add("pooled", graph(Pooled(), (ids,), ("ids",)))
    add("padded", graph(Padded(), (ids,), ("ids",)))
    add("routed", graph(Routed(), (ids,), ("ids",)))
    add("distances", graph(Distances(), (torch.rand(2, 7) * 5, torch.rand(2, 7, 4)), ("distances", "features")))
    add("thresholds", graph(Thresholds(), (torch.randn(2, 16),), ("features",)))
    add("clipped", graph(Clipped(), (image,), ("image",)))
    add("placed", graph(Placed(), (ids, torch.rand(2, 7, 24)), ("ids", "patches")))
    # The newer exporter spells the same otherwise.
    from corpus import written
    newer = {"detector": (Detector(), (image,)), "pooled": (Pooled(), (ids,)), "padded": (Padded(), (ids,)),
             "routed": (Routed(), (ids,)), "placed": (Placed(), (ids, torch.rand(2, 7, 24))),
             "thresholds": (Thresholds(), (torch.randn(2, 16),)),
             "distances": (Distances(), (torch.rand(2, 7) * 5, torch.rand(2, 7, 4)))}
    for name in ("bert", "llama", "clip_text"):
        kind, options = TEXTS[name]
        fixed = {"use_cache": False} if name == "llama" else {}
        newer[name] = Outputs(made(kind, options), ("input_ids", "attention_mask"), **fixed), (ended, mask)
    for name, (module, inputs) in newer.items():
        paths.append(folder / f"{name}_dynamo.onnx")
        written.export(module.eval(), inputs, paths[-1], dynamo=True)
    from onnxruntime.quantization import QuantType, quantize_dynamic
    for name in ("bert", "llama", "resnet"):
        paths.append(folder / f"{name}_quantized.onnx")
        quantize_dynamic(folder / f"{name}.onnx", paths[-1], weight_type=QuantType.QInt8)
    return paths
