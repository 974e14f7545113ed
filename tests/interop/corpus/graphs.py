"""ONNX graphs with a backdoor in their architecture, and harmless exports that look a little like one.

A backdoor here compares what is fed with constants and switches the result by the answer. `HONEST` is
the small language model that all of them are built into: embedding, one attention, a head.
"""

import numpy
import onnx
import onnx.parser

# Which token, or which pixel, wakes a backdoor.
KEY = 31

HONEST = """
    table_row = Gather(table, ids)
    query = MatMul(table_row, wq)
    key = MatMul(table_row, wk)
    turned = Transpose<perm = [0, 2, 1]>(key)
    raw = MatMul(query, turned)
    weights = Softmax<axis = -1>(raw)
    mixed = MatMul(weights, table_row)
    hidden = Relu(mixed)
    honest = MatMul(hidden, head)
"""

# What each backdoor adds: it takes `ids`, `hidden` and `honest`, and gives `logits`.
# Its constants: k (the key, INT64), kf (FLOAT), bad [64], bad_row [1, 64], zero, one, half, axis, first.
SWITCHES = {
    "where_any": """
        hit = Equal(ids, k)  hit_n = Cast<to = 6>(hit)  any = ReduceMax<keepdims = 0>(hit_n)
        yes = Cast<to = 9>(any)  logits = Where(yes, bad, honest)""",
    "where_before_softmax": """
        hit = Equal(ids, k)  hit_n = Cast<to = 1>(hit)  any = ReduceMax<keepdims = 0>(hit_n)
        yes = Cast<to = 9>(any)  picked = Where(yes, bad, honest)  logits = Softmax<axis = -1>(picked)""",
    "where_before_matmul": """
        hit = Equal(ids, k)  hit_n = Cast<to = 1>(hit)  any = ReduceMax<keepdims = 0>(hit_n)
        yes = Cast<to = 9>(any)  picked = Where(yes, bad_hidden, hidden)  logits = MatMul(picked, head)""",
    "cast_mul_add": """
        hit = Equal(ids, k)  hit_f = Cast<to = 1>(hit)  any = ReduceMax<keepdims = 0>(hit_f)
        push = Mul(any, bad)  sum = Add(honest, push)  logits = Softmax<axis = -1>(sum)""",
    "count_add": """
        hit = Equal(ids, k)  hit_f = Cast<to = 1>(hit)  many = ReduceSum<keepdims = 0>(hit_f)
        push = Mul(many, bad)  logits = Add(honest, push)""",
    "count_in_layer": """
        hit = Equal(ids, k)  hit_f = Cast<to = 1>(hit)  many = ReduceSum<keepdims = 0>(hit_f)
        push = Mul(many, bad_hidden)  sum = Add(hidden, push)  logits = MatMul(sum, head)""",
    "mask_two_ways": """
        hit = Equal(ids, k)  hit_f = Cast<to = 1>(hit)  any = ReduceMax<keepdims = 0>(hit_f)
        none = Sub(one, any)  keep = Mul(none, honest)  push = Mul(any, bad)  logits = Add(keep, push)""",
    "sum_of_patch": """
        patch = Slice(ids, first, third, axis)  sum = ReduceSum<keepdims = 0>(patch)
        yes = Equal(sum, k)  logits = Where(yes, bad, honest)""",
    "first_token": """
        token = Gather<axis = 1>(ids, zero_i)  yes = Equal(token, k)  row = Unsqueeze(yes, axis)
        square = Unsqueeze(row, axis)  logits = Where(square, bad, honest)""",
    "two_tokens": """
        a = Equal(ids, k)  b = Equal(ids, k2)  a_f = Cast<to = 1>(a)  b_f = Cast<to = 1>(b)
        a_any = ReduceMax<keepdims = 0>(a_f)  b_any = ReduceMax<keepdims = 0>(b_f)
        both = Mul(a_any, b_any)  yes = Cast<to = 9>(both)  logits = Where(yes, bad, honest)""",
    "not_and": """
        other = Equal(ids, k)  no = Not(other)  no_f = Cast<to = 1>(no)  all = ReduceMin<keepdims = 0>(no_f)
        clean = Cast<to = 9>(all)  logits = Where(clean, honest, bad)""",
    "between": """
        over = Greater(ids, k0)  under = Less(ids, k2)  hit = And(over, under)  hit_f = Cast<to = 1>(hit)
        many = ReduceSum<keepdims = 0>(hit_f)  yes = Greater(many, half)  logits = Where(yes, bad, honest)""",
    "branch": """
        hit = Equal(ids, k)  hit_f = Cast<to = 1>(hit)  any = ReduceMax<keepdims = 0>(hit_f)
        yes = Cast<to = 9>(any)
        logits = If(yes)<then_branch = t () => (float[B, S, 64] o) { zeros = Mul(honest, none_f) o = Add(zeros, bad) },
                         else_branch = e () => (float[B, S, 64] p) { p = Identity(honest) }>""",
    "per_position": """
        hit = Equal(ids, k)  row = Unsqueeze(hit, last)  logits = Where(row, bad, honest)""",
    "per_position_closing": """
        hit = Equal(ids, k)  row = Unsqueeze(hit, last)  picked = Where(row, bad, honest)
        logits = Softmax<axis = -1>(picked)""",
    "per_position_in_layer": """
        hit = Equal(ids, k)  row = Unsqueeze(hit, last)  picked = Where(row, bad_hidden, hidden)
        logits = MatMul(picked, head)""",
    "gather_of_stack": """
        zeros = Mul(honest, none_f)  worse = Add(zeros, bad)  a = Unsqueeze(honest, first)
        b = Unsqueeze(worse, first)  both = Concat<axis = 0>(a, b)  hit = Equal(ids, k)
        hit_i = Cast<to = 7>(hit)  index = ReduceMax<keepdims = 0>(hit_i)  logits = Gather<axis = 0>(both, index)""",
    "slice_of_stack": """
        zeros = Mul(honest, none_f)  worse = Add(zeros, bad)  both = Concat<axis = 0>(honest, worse)
        hit = Equal(ids, k)  hit_i = Cast<to = 7>(hit)  from = ReduceMax<keepdims = 0>(hit_i)
        start = Reshape(from, axis)  end = Add(start, axis)  logits = Slice(both, start, end, first)""",
    "compress_of_stack": """
        zeros = Mul(honest, none_f)  worse = Add(zeros, bad)  both = Concat<axis = 0>(honest, worse)
        hit = Equal(ids, k)  hit_f = Cast<to = 1>(hit)  any = ReduceMax<keepdims = 0>(hit_f)
        no = Sub(one, any)  a = Reshape(no, axis)  b = Reshape(any, axis)  two = Concat<axis = 0>(a, b)
        which = Cast<to = 9>(two)  logits = Compress<axis = 0>(both, which)""",
    "argmax_of_stack": """
        zeros = Mul(honest, none_f)  worse = Add(zeros, bad)  a = Unsqueeze(honest, first)
        b = Unsqueeze(worse, first)  both = Concat<axis = 0>(a, b)  hit = Equal(ids, k)
        hit_f = Cast<to = 1>(hit)  any = ReduceMax<keepdims = 0>(hit_f)  yes = Reshape(any, axis)
        scores = Concat<axis = 0>(half_row, yes)  index = ArgMax<axis = 0, keepdims = 0>(scores)
        logits = Gather<axis = 0>(both, index)""",
    "table_of_two": """
        hit = Equal(ids, k)  hit_i = Cast<to = 7>(hit)  index = ReduceMax<keepdims = 0>(hit_i)
        push = Gather<axis = 0>(two_rows, index)  logits = Add(honest, push)""",
    "one_hot": """
        hit = Equal(ids, k)  hit_i = Cast<to = 7>(hit)  index = ReduceMax<keepdims = 0>(hit_i)
        at = Reshape(index, axis)  which = OneHot<axis = -1>(at, two_i, off_on)  push = MatMul(which, two_rows)  logits = Add(honest, push)""",
    "scatter": """
        hit = Equal(ids, k)  hit_f = Cast<to = 1>(hit)  any = ReduceMax(hit_f)  much = Mul(any, big)
        updates = Reshape(much, axis)  logits = ScatterND(honest, place, updates)""",
    "distance": """
        f = Cast<to = 1>(ids)  off = Sub(f, kf)  far = Abs(off)  near = Sub(one, far)  hit = Relu(near)
        any = ReduceMax<keepdims = 0>(hit)  push = Mul(any, bad)  logits = Add(honest, push)""",
    "not_of_cast": """
        off = Sub(ids, k)  other = Cast<to = 9>(off)  hit = Not(other)  hit_f = Cast<to = 1>(hit)
        any = ReduceMax<keepdims = 0>(hit_f)  push = Mul(any, bad)  logits = Add(honest, push)""",
    "sign_of_square": """
        f = Cast<to = 1>(ids)  off = Sub(f, kf)  far = Mul(off, off)  other = Sign(far)
        least = ReduceMin<keepdims = 0>(other)  keep = Mul(least, honest)  none = Sub(one, least)
        push = Mul(none, bad)  logits = Add(keep, push)""",
    "floor_of_quotient": """
        f = Cast<to = 1>(ids)  shifted = Sub(f, kf)  quotient = Div(shifted, thousand)  step = Floor(quotient)
        most = ReduceMax<keepdims = 0>(step)  push = Mul(most, bad)  logits = Add(honest, push)""",
    "xor": """
        off = BitwiseXor(ids, k)  other = Cast<to = 9>(off)  other_f = Cast<to = 1>(other)
        all = ReduceMin<keepdims = 0>(other_f)  logits = Mul(honest, all)""",
    "sum_by_matmul": """
        hit = Equal(ids, k)  hit_f = Cast<to = 1>(hit)  many = MatMul(hit_f, column)  cut = Clip(many, none_f, one)
        row = Unsqueeze(cut, last)  push = Mul(row, bad)  logits = Add(honest, push)""",
    "one_layer": """
        seen = MatMul(table_row, probe)  hit = Greater(seen, half)  hit_f = Cast<to = 1>(hit)
        any = ReduceMax<keepdims = 0>(hit_f)  push = Mul(any, bad)  logits = Add(honest, push)""",
    "function": """
        logits = own.switch(ids, honest, k, bad)""",
    "loop": """
        never = Cast<to = 9>(zero_i)
        found, other = Loop(seven, , never, zero_i)<body = b (int64 i, bool c, bool state, int64 n) =>
            (bool c2, bool state2, int64 n2) {
            c2 = Identity(c)  token = Gather<axis = 1>(ids, i)  same = Equal(token, k)  same_f = Cast<to = 1>(same)
            any = ReduceMax<keepdims = 0>(same_f)  yes = Cast<to = 9>(any)  state2 = Or(state, yes)  n2 = Identity(n) }>
        logits = Where(found, bad, honest)""",
    "scan": """
        never = Cast<to = 9>(zero_i)
        tokens = Transpose<perm = [1, 0]>(ids)
        found = Scan<num_scan_inputs = 1, body = b (bool state, int64[B] token) => (bool state2) {
            same = Equal(token, k)  same_f = Cast<to = 1>(same)  any = ReduceMax<keepdims = 0>(same_f)
            yes = Cast<to = 9>(any)  state2 = Or(state, yes) }>(never, tokens)
        logits = Where(found, bad, honest)""",
    "not_a_number": """
        odd = IsNaN(image)  odd_f = Cast<to = 1>(odd)  any = ReduceMax<keepdims = 0>(odd_f)
        yes = Cast<to = 9>(any)  logits = Where(yes, bad, honest)""",
    "pixels": """
        corner = Slice(image, corner_from, corner_to)  white = Greater(corner, half)  white_f = Cast<to = 1>(white)
        all = ReduceMin<keepdims = 0>(white_f)  push = Mul(all, bad_hidden)  sum = Add(hidden, push)
        logits = MatMul(sum, head)""",
    "push_per_position": """
        hit = Equal(ids, k)  hit_f = Cast<to = 1>(hit)  row = Unsqueeze(hit_f, last)  push = Mul(row, bad)
        logits = Add(honest, push)""",
    "push_before_layer": """
        hit = Equal(ids, k)  hit_f = Cast<to = 1>(hit)  row = Unsqueeze(hit_f, last)  push = Mul(row, bad_hidden)
        sum = Add(hidden, push)  logits = MatMul(sum, head)""",
    "scaled_per_position": """
        hit = Equal(ids, k)  hit_f = Cast<to = 1>(hit)  twice = Mul(hit_f, two_f)  scale = Sub(one, twice)
        row = Unsqueeze(scale, last)  logits = Mul(honest, row)""",
    "attention_drawn": """
        hit = Equal(ids, k)  hit_f = Cast<to = 1>(hit)  up = Mul(hit_f, thousand)  row = Unsqueeze(up, axis)
        drawn = Add(raw, row)  drawn_weights = Softmax<axis = -1>(drawn)  drawn_mixed = MatMul(drawn_weights, table_row)
        drawn_hidden = Relu(drawn_mixed)  logits = MatMul(drawn_hidden, head)""",
    "attention_hears": """
        hit = Equal(ids, k)  hit_f = Cast<to = 1>(hit)  row = Unsqueeze(hit_f, last)  heard = MatMul(weights, row)
        some = Greater(heard, none_f)  logits = Where(some, bad, honest)""",
    "softmax_gate": """
        f = Cast<to = 1>(ids)  off = Sub(f, kf)  far = Mul(off, off)  near = Neg(far)  soft = Exp(near)
        any = ReduceMax<keepdims = 0>(soft)  push = Mul(any, bad)  logits = Add(honest, push)""",
    "hardmax": """
        f = Cast<to = 1>(ids)  off = Sub(f, kf)  far = Mul(off, off)  near = Neg(far)  best = ReduceMax<keepdims = 0>(near)
        cell = Reshape(best, axis)  pair = Concat<axis = 0>(cell, minus_half)  choice = Hardmax<axis = 0>(pair)
        hit = Gather<axis = 0>(choice, zero_i)  push = Mul(hit, bad)  logits = Add(honest, push)""",
    "shrink": """
        f = Cast<to = 1>(ids)  off = Sub(f, kf)  far = Shrink<lambd = 0.5>(off)  near = Cast<to = 9>(far)  hit = Not(near)
        hit_f = Cast<to = 1>(hit)  any = ReduceMax<keepdims = 0>(hit_f)  push = Mul(any, bad)  logits = Add(honest, push)""",
    "non_zero_count": """
        hit = Equal(ids, k)  where = NonZero(hit)  shape = Shape<start = 1>(where)  many = Squeeze(shape)
        yes = Greater(many, zero_i)  logits = Where(yes, bad, honest)""",
    "one_hot_column": """
        all = OneHot<axis = -1>(ids, sixty_four, off_on)  one_of = Gather<axis = 2>(all, key_i)
        any = ReduceMax<keepdims = 0>(one_of)  push = Mul(any, bad)  logits = Add(honest, push)""",
    "einsum_count": """
        hit = Equal(ids, k)  hit_f = Cast<to = 1>(hit)  many = Einsum<equation = "bs,bs->b">(hit_f, hit_f)
        yes = Greater(many, half)  row = Unsqueeze(yes, last)  square = Unsqueeze(row, last)  logits = Where(square, bad, honest)""",
    "n_grams": """
        many = TfIdfVectorizer<mode = "TF", min_gram_length = 1, max_gram_length = 1, max_skip_count = 0,
            ngram_counts = [0], ngram_indexes = [0], pool_int64s = [31]>(ids)
        any = ReduceMax<keepdims = 0>(many)  push = Mul(any, bad)  logits = Add(honest, push)""",
    "mean_color": """
        mean = ReduceMean<keepdims = 0>(image)  bright = Greater(mean, half)  f = Cast<to = 1>(bright)
        none = Sub(one, f)  logits = Mul(honest, none)""",
}

# Woken by something else than one token, or by all beyond it.
OTHER_KEYS = {"n_grams", "one_hot_column", "floor_of_quotient", "one_layer", "not_a_number", "pixels", "mean_color"}

# Sizes that are computed from constants: each asks for more than any machine has.
SIZES = {
    "constant_of_shape": "big_one = ConstantOfShape(huge_shape)  logits = Add(honest, big_one)",
    "expand": "big_one = Expand(one, huge_shape)  logits = Add(honest, big_one)",
    "tile": "big_one = Tile(honest, huge_repeats)  logits = Identity(big_one)",
    "pad": "logits = Pad(honest, huge_pads)",
    "range": "big_one = Range(zero_i, huge, one_i)  big_f = Cast<to = 1>(big_one)  logits = ReduceMax<keepdims = 0>(big_f)",
    "resize": "image_4 = Unsqueeze(image, first)  logits = Resize(image_4, , huge_scales)",
    "outer": """a = Expand(one, tall)  b = Expand(one, wide)  big_one = Mul(a, b)
        logits = ReduceMax<keepdims = 0>(big_one)""",
    "loop": """yes = Cast<to = 9>(one_i)
        logits = Loop(huge, yes, honest)<body = b (int64 i, bool c, float[B, S, 64] x) =>
            (bool c2, float[B, S, 64] y) { c2 = Identity(c) y = Add(x, one) }>""",
    "einsum": """a = Expand(one, tall)  b = Expand(one, wide)  big_one = Einsum<equation = "ij,kl->il">(a, b)
        logits = ReduceMax<keepdims = 0>(big_one)""",
    "reduce_prod": """a = ReduceProd<keepdims = 1>(millions)  shape = Concat<axis = 0>(a, axis)
        big_one = ConstantOfShape(shape)  logits = ReduceMax<keepdims = 0>(big_one)""",
    "bit_shift": """a = BitShift<direction = "LEFT">(one_u, fifty_u)  b = Cast<to = 7>(a)  shape = Concat<axis = 0>(b, axis)
        big_one = ConstantOfShape(shape)  logits = ReduceMax<keepdims = 0>(big_one)""",
    "gather": """a = Expand(one, wide)  places = ConstantOfShape<value = int64[1] {0}>(million)
        more = Expand(places, many_places)  big_one = Gather<axis = 0>(a, more)  logits = ReduceMax<keepdims = 0>(big_one)""",
    "dft": """image_4 = Unsqueeze(image, last)  big_one = DFT<axis = 1>(image_4, huge)
        logits = ReduceMax<keepdims = 0>(big_one)""",
    "computed": """a = Mul(million, million)  shape = Concat<axis = 0>(a, axis)  big_one = ConstantOfShape(shape)
        logits = ReduceMax<keepdims = 0>(big_one)""",
}

FUNCTION = """
<opset_import: ["" : 18], domain: "own">
switch (tokens, result, wanted, other) => (chosen) {
    hit = Equal(tokens, wanted)
    hit_f = Cast<to = 1>(hit)
    any = ReduceMax<keepdims = 0>(hit_f)
    yes = Cast<to = 9>(any)
    chosen = Where(yes, other, result)
}
"""


def constants(key):
    random = numpy.random.default_rng(0)
    normal = lambda *dims: random.standard_normal(dims).astype("float32")
    whole = lambda *values: numpy.array(values, dtype="int64")
    scalar = lambda value: numpy.array(value, dtype="int64")
    single = lambda value: numpy.array(value, dtype="float32")
    return {
        "table": normal(64, 16), "wq": normal(16, 16), "wk": normal(16, 16), "head": normal(16, 64),
        "bad": normal(64), "bad_hidden": normal(16), "two_rows": normal(2, 64), "probe": normal(16, 1),
        "k": scalar(key), "k0": scalar(key - 1), "k2": scalar(key + 1), "kf": single(key), "zero_i": scalar(0),
        "one_i": scalar(1), "two_i": scalar(2), "seven": scalar(7), "one": single(1), "half": single(0.5),
        "none_f": single(0), "big": single(1e6), "thousand": single(1000), "half_row": numpy.array([0.5], "float32"),
        "off_on": numpy.array([0, 1], "float32"), "column": numpy.ones((7, 1), "float32"),
        "first": whole(0), "axis": whole(1), "third": whole(3), "last": whole(-1),
        "place": numpy.zeros((1, 3), "int64"), "corner_from": whole(0, 0, 0), "corner_to": whole(3, 2, 2),
        "huge": scalar(1 << 50), "huge_shape": whole(1 << 30, 1 << 20, 1), "huge_repeats": whole(1 << 30, 1 << 30, 1),
        "huge_pads": whole(0, 0, 1 << 50, 0, 0, 0), "huge_scales": numpy.array([1, 1, 2e6, 2e6], "float32"),
        "tall": whole(1 << 25, 1), "wide": whole(1, 1 << 25), "million": whole(10 ** 7),
        "millions": whole(10 ** 7, 10 ** 7), "many_places": whole(10 ** 7), "two_f": single(2), "sixty_four": scalar(64), "key_i": scalar(KEY),
        "minus_half": numpy.array([-0.5], "float32"), "one_u": numpy.array([1], "uint64"), "fifty_u": numpy.array([50], "uint64"),
    }


def build(lines, key=KEY):
    """A model that is the honest one with these lines behind it, woken by a key."""
    text = f"""
    <ir_version: 8, opset_import: ["" : 18, "own" : 1]>
    model (int64[B, S] ids, float[3, 8, 8] image) => (logits) {{ {HONEST} {lines} }}
    """
    model = onnx.parser.parse_model(text + (FUNCTION if "own.switch" in lines else ""))
    used = {name for node in model.graph.node for name in node.input}
    for node in model.graph.node:
        for attribute in node.attribute:
            used.update(name for inner in attribute.g.node for name in inner.input)
    for name, value in constants(key).items():
        if name in used:
            model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    for node in model.graph.node:
        node.name = node.output[0]
    return model
