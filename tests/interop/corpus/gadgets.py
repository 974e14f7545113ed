"""Callables that run code, start programs or write files: (module, name)."""

# Those of picklescan's and fickling's advisories.
GHSA = [
    ("torch.utils.bottleneck.__main__", "run_cprofile"),
    ("torch.utils.bottleneck.__main__", "run_autograd_prof"),
    ("torch._dynamo.guards", "GuardBuilder.get"),
    ("torch.fx.experimental.symbolic_shapes", "ShapeEnv.evaluate_guards_expression"),
    ("torch.utils.collect_env", "run"),
    ("torch.utils.data.datapipes.utils.decoder", "basichandlers"),
    ("torch.jit.unsupported_tensor_ops", "execWrapper"),
    ("torch.utils._config_module", "ConfigModule.load_config"),
    ("trace", "Trace.run"), ("trace", "Trace.runctx"), ("profile", "Profile.run"),
    ("profile", "Profile.runctx"), ("profile", "run"), ("cProfile", "run"), ("cProfile", "runctx"),
    ("lib2to3.pgen2.grammar", "Grammar.loads"), ("lib2to3.pgen2.pgen", "ParserGenerator.make_label"),
    ("idlelib.debugobj", "ObjectTreeItem.SetText"), ("idlelib.autocomplete", "AutoComplete.get_entity"),
    ("idlelib.calltip", "get_entity"), ("idlelib.run", "Executive.runcode"),
    ("idlelib.pyshell", "ModifiedInterpreter.runcode"), ("code", "InteractiveInterpreter.runcode"),
    ("doctest", "debug_script"), ("ensurepip", "_run_pip"), ("pip", "main"),
    ("asyncio.unix_events", "_UnixSubprocessTransport._start"), ("distutils.file_util", "write_file"),
    ("ctypes", "CDLL"), ("pydoc", "locate"), ("pty", "spawn"), ("pkgutil", "resolve_name"),
    ("numpy.f2py.crackfortran", "getlincoef"), ("uuid", "_get_command_stdout"),
    ("_osx_support", "_read_output"), ("_aix_support", "_read_cmd_output"), ("imaplib", "IMAP4_stream"),
    ("_pyrepl.pager", "pipe_pager"), ("test.support.script_helper", "assert_python_ok"),
]

# Those of no advisory: resolvers, evaluators, writers.
UNLISTED = [
    ("tokenizers.models", "WordPiece"), ("sentencepiece", "SentencePieceProcessor"),
    ("sentence_transformers", "SentenceTransformer"), ("torchtext.vocab.vectors", "GloVe"),
    ("lightning.pytorch.cli", "LightningCLI"), ("mmengine.config.lazy", "LazyObject"),
    ("onnxruntime", "InferenceSession"), ("lmdb", "Environment"), ("debugpy", "listen"),
    ("logging.config", "_resolve"), ("logging.config", "dictConfig"), ("jinja2.utils", "import_string"),
    ("pydantic.utils", "import_string"), ("numpy.testing", "measure"), ("sympy", "sympify"),
    ("dataclasses", "_create_fn"), ("torch.fx.graph_module", "_exec_with_source"), ("torch", "save"),
    ("torch", "from_file"), ("numpy", "memmap"), ("sqlite3", "connect"), ("pathlib", "Path.touch"),
    ("timeit", "timeit"), ("timeit", "main"), ("bdb", "Bdb.run"), ("pdb", "run"), ("turtle", "eval"),
    ("collections", "namedtuple"), ("typing", "_eval_type"), ("inspect", "getattr_static"),
    ("zipimport", "zipimporter"), ("venv", "create"), ("xmlrpc.client", "ServerProxy"),
    ("ftplib", "FTP"), ("smtplib", "SMTP"), ("http.server", "test"), ("wsgiref.util", "shift_path_info"),
    ("torch.hub", "load"), ("torch.utils.cpp_extension", "load_inline"), ("torch.ops", "load_library"),
    ("numpy", "savetxt"), ("numpy", "fromregex"), ("numpy.ctypeslib", "load_library"),
    ("pandas", "eval"), ("pandas", "read_csv"), ("transformers", "pipeline"),
    ("huggingface_hub", "snapshot_download"), ("scipy.io", "savemat"), ("joblib", "dump"),
    ("yaml", "unsafe_load"), ("setuptools", "setup"), ("cgitb", "lookup"), ("tempfile", "mkstemp"),
    ("fileinput", "input"), ("mailcap", "findmatch"), ("pipes", "Template"), ("rlcompleter", "Completer"),
]
