"""llama.cpp's source tree, whose converters judge ours: without it, or without transformers, the file
that imports this is skipped. Makes the modules of llm/ importable.
"""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "llm"))

pytest.importorskip("transformers", reason="no transformers in this environment")
TREE = os.environ.get("WEIGHTBRIDGE_LLAMA_CPP", "")
MODELS = Path(TREE) / "models"
if not all((Path(TREE) / name).exists() for name in ("convert_hf_to_gguf.py", "convert_lora_to_gguf.py")):
    pytest.skip("WEIGHTBRIDGE_LLAMA_CPP names no llama.cpp tree", allow_module_level=True)

import zoo  # one of llm


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A repository of a small model, for what stands beside weights."""
    return zoo.build(zoo.BY_NAME["qwen2"], tmp_path_factory.mktemp("small") / "hf", MODELS)
