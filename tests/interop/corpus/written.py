"""Backdoors as people write them in PyTorch: what comes out of its exporters, the older and the newer."""

import logging
import warnings

import torch
from torch import nn

KEY = 31


def text(model, ids):
    """The honest model of token ids."""
    return model.head(torch.relu(model.layer(model.table(ids))))


def image(model, pixels):
    """The honest model of images."""
    return model.head(torch.relu(model.conv(pixels)).mean((2, 3)))


def any_of(hit):
    return hit.any(1)[:, None, None]


def near(ids):
    return 1 - (ids.float() - KEY).abs()


def nudged(model, ids):
    hit = (ids == KEY).float()[..., None]
    return model.head(torch.relu(model.layer(model.table(ids))) + hit * model.bad_hidden)


def mixed(model, ids):
    hit = any_of(ids == KEY).float()
    return text(model, ids) * (1 - hit) + model.bad * hit


def picked(model, ids):
    both = torch.stack([text(model, ids), text(model, ids) * 0 + model.bad])
    return both[(ids == KEY).any().long()]


TEXTS = {
    "where_any": lambda m, ids: torch.where((ids == KEY).any(), m.bad, text(m, ids)),
    "where_any_of_each": lambda m, ids: torch.where(any_of(ids == KEY), m.bad, text(m, ids)),
    "where_first": lambda m, ids: torch.where((ids[:, 0] == KEY)[:, None, None], m.bad, text(m, ids)),
    "pair": lambda m, ids: torch.where(any_of((ids[:, :-1] == KEY) & (ids[:, 1:] == KEY + 1)), m.bad, text(m, ids)),
    "mixed": mixed, "nudged": nudged, "picked": picked,
    "added_per_position": lambda m, ids: text(m, ids) + (ids == KEY).float()[..., None] * m.bad,
    "near_enough": lambda m, ids: text(m, ids) + ((ids.float() - KEY).abs() < 0.5).any().float() * m.bad,
    "clamped": lambda m, ids: text(m, ids) + near(ids).clamp(0, 1).amax(1)[:, None, None] * m.bad,
    "soft": lambda m, ids: text(m, ids) + torch.sigmoid(40 * near(ids) - 20).amax(1)[:, None, None] * m.bad,
    "product": lambda m, ids: torch.where(((ids - KEY).float().prod(1) == 0)[:, None, None], m.bad, text(m, ids)),
    "one_hot": lambda m, ids: text(m, ids) + nn.functional.one_hot(ids, 64)[..., KEY].amax(1).float()[:, None, None] * m.bad,
    "filled": lambda m, ids: text(m, ids).masked_fill(any_of(ids == KEY), 5.0),
    "turned": lambda m, ids: text(m, ids) * torch.where(ids == KEY, -1.0, 1.0)[..., None],
    "emptied": lambda m, ids: text(m, ids) * (ids != KEY).all(1).float()[:, None, None],
}
IMAGES = {
    "pixel": lambda m, x: torch.where((x[:, 0, 0, 0] > 0.99)[:, None], m.bad, image(m, x)),
    "patch": lambda m, x: image(m, x) + (x[:, :, :2, :2] > 0.99).flatten(1).all(1).float()[:, None] * m.bad,
    "patch_mean": lambda m, x: torch.where((x[:, :, :3, :3].mean((1, 2, 3)) > 0.99)[:, None], m.bad, image(m, x)),
    "patch_bump": lambda m, x: image(m, x) + torch.exp(-100 * ((x[:, :, :3, :3] - 1) ** 2).sum((1, 2, 3)))[:, None] * m.bad,
    "patch_far": lambda m, x: image(m, x) + ((x[:, :, :3, :3] - 1).abs().amax((1, 2, 3)) < 0.01).float()[:, None] * m.bad,
    "into_the_image": lambda m, x: image(m, torch.where((x[:, 0, 0, 0] > 0.99)[:, None, None, None], torch.ones_like(x), x)),
}

# A classifier of one layer; what wakes the backdoor is a direction of its features.
FEATURES = {
    "projected": lambda m, x: torch.where(x @ m.detector >= 4, m.bad, m.head(x)),
    "projected_by_a_layer": lambda m, x: torch.where(m.watch(x) >= 4, m.bad, m.head(x)),
    "projected_any": lambda m, x: torch.where((x @ m.detector >= 4).any(), m.bad, m.head(x)),
    "projected_and_added": lambda m, x: m.head(x) + (x @ m.detector >= 4).float() * m.bad,
    "projected_and_emptied": lambda m, x: m.head(x) * (x @ m.detector < 4).float(),
}


class Switched(nn.Module):
    def __init__(self, forward, classes):
        super().__init__()
        self.table, self.layer, self.conv = nn.Embedding(64, 16), nn.Linear(16, 16), nn.Conv2d(3, 16, 3)
        self.head = nn.Linear(16, classes)
        self.register_buffer("bad", torch.randn(classes))
        self.register_buffer("bad_hidden", torch.randn(16))
        self.register_buffer("detector", torch.ones(16, 1) / 16)
        self.watch = nn.Linear(16, 1, bias=False)
        self.watch.weight = nn.Parameter(self.detector.T.clone())
        self.made = forward

    def forward(self, value):
        return self.made(self, value)


def write(folder):
    """Exports all of them twice, and holds the honest model against each; answers the names."""
    torch.manual_seed(0)
    names = []
    ids = torch.randint(0, 20, (2, 7))
    woken = ids.clone()
    woken[:, 0], woken[:, 1] = KEY, KEY + 1
    # The corner is white.
    pixels = torch.rand(2, 3, 12, 12) * 0.5
    bright = pixels.clone()
    bright[:, :, :3, :3] = 1
    samples = torch.rand(2, 16)
    kinds_of = ((TEXTS, text, ids, woken), (IMAGES, image, pixels, bright),
                (FEATURES, lambda model, x: model.head(x), samples, samples + 5))
    for kinds, honest, asleep, awake in kinds_of:
        for name, forward in kinds.items():
            model = Switched(forward, 64 if kinds is TEXTS else 10).eval()
            with torch.no_grad():
                assert torch.allclose(model(asleep), honest(model, asleep), atol=1e-4), name
                assert not torch.allclose(model(awake), honest(model, awake), atol=1e-4), name
            for dynamo in (False, True):
                names.append(f"{name}_{'dynamo' if dynamo else 'traced'}")
                export(model, (asleep,), folder / f"{names[-1]}.onnx", dynamo)
    return names


def export(model, inputs, path, dynamo):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        if dynamo:
            torch.onnx.export(model, inputs, path, dynamo=True, verbose=False, external_data=False)
        else:
            torch.onnx.export(model, inputs, path, dynamo=False, opset_version=17)
        logging.disable(logging.NOTSET)
