"""A sentence-transformers checkpoint of bge-small-en-v1.5 out of its ONNX file.

    python checkpoint.py model.onnx tokenizer.json FOLDER

The frameworks load the model with torch, and only ONNX files of it can be had without a model
hub. The exported graph holds the very weights: biases, norms and embeddings under their own names,
matrices transposed under the names of the nodes that multiply by them.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from safetensors.numpy import save_file

CONFIG = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 384,
    "intermediate_size": 1536,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "torch_dtype": "float32",
    "type_vocab_size": 2,
    "vocab_size": 30522,
}
TOKENIZER = {
    "tokenizer_class": "BertTokenizer",
    "do_lower_case": True,
    "model_max_length": 512,
    **{f"{name}_token": f"[{name.upper()}]" for name in ("cls", "mask", "pad", "sep", "unk")},
}
POOLING = {"word_embedding_dimension": 384, "pooling_mode_cls_token": True}
MODULES = [
    {"idx": idx, "name": str(idx), "path": path, "type": f"sentence_transformers.models.{kind}"}
    for idx, (path, kind) in enumerate(
        [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    )
]


def weights(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """By the names that torch's BertModel gives them."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    named = {name: value for name, value in found.items() if name.endswith((".weight", ".bias"))}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in found:
            name = node.name.removeprefix("/").removesuffix("/MatMul").replace("/", ".")
            named[f"{name}.weight"] = np.ascontiguousarray(found[node.input[1]].T)
    return named


def main() -> None:
    model, tokenizer, folder = map(Path, sys.argv[1:])
    for path in ("1_Pooling", "2_Normalize"):
        (folder / path).mkdir(parents=True)
    save_file(weights(onnx.load(model).graph), folder / "model.safetensors", {"format": "pt"})
    shutil.copy(tokenizer, folder / "tokenizer.json")
    for name, content in {
        "config.json": CONFIG,
        "tokenizer_config.json": TOKENIZER,
        "modules.json": MODULES,
        "sentence_bert_config.json": {"max_seq_length": 512, "do_lower_case": True},
        "1_Pooling/config.json": POOLING,
    }.items():
        (folder / name).write_text(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
