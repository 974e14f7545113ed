"""The real convert_hf_to_gguf.py on one repository, for several types in one process.

    python converter.py LLAMA_CPP REPOSITORY OUT.{ftype}.gguf TYPE ...

Writes what went wrong with a type to OUT.TYPE.error instead. CONVERTER_OPTIONS in the environment are
options for the converter, CONVERTER_PRE a pre-tokenizer that is named instead of recognized.
"""

import importlib.util
import logging
import os
import sys
import traceback


def main(tree, repository, out, kinds):
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
    sys.path.insert(0, tree)
    path = os.path.join(tree, "convert_hf_to_gguf.py")
    spec = importlib.util.spec_from_file_location("convert_hf_to_gguf", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if pre := os.environ.get("CONVERTER_PRE"):
        from conversion.base import TextModel
        TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
    for kind in kinds:
        target = out.replace("{ftype}", kind)
        options = os.environ.get("CONVERTER_OPTIONS", "").split()
        sys.argv = [path, repository, "--outfile", target, "--outtype", kind, *options]
        try:
            module.main()
        except (Exception, SystemExit) as error:  # one type must not hide the others
            with open(target.removesuffix(".gguf") + ".error", "w") as file:
                file.write(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
            if os.path.exists(target):
                os.remove(target)
    logging.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
