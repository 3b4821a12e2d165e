"""What deploy/triton declares is what the ONNX graph has, so that Triton can load it."""

from pathlib import Path

import onnxruntime
import pytest
from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2

from penstock.common.failures import TransientError
from penstock.models import MODELS, ModelSettings, model_spec
from penstock.models.cache import model_files
from penstock.models.triton import BUCKETS, MAX_ROWS

pytestmark = pytest.mark.connected

REPOSITORY = Path(__file__).parents[2] / "deploy/triton/models"
TYPES = {"TYPE_INT64": "tensor(int64)", "TYPE_FP32": "tensor(float)"}


def config(model: str) -> "model_config_pb2.ModelConfig":
    text = (REPOSITORY / model / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def session(model: str) -> onnxruntime.InferenceSession:
    try:
        files = model_files(model_spec(model), "fp32", ModelSettings())
    except TransientError as error:
        pytest.skip(str(error))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        str(files.onnx), options, providers=["CPUExecutionProvider"]
    )


def test_every_model_has_its_folder() -> None:
    assert {folder.name for folder in REPOSITORY.iterdir()} == set(MODELS)


@pytest.mark.parametrize("model", sorted(MODELS))
def test_names_types_and_shapes_are_the_graphs(model: str) -> None:
    declared, graph = config(model), session(model)
    assert declared.name == model
    assert declared.backend == "onnxruntime"
    given = {tensor.name: tensor for tensor in graph.get_inputs()}
    assert {tensor.name for tensor in declared.input} == set(given)
    outputs = {tensor.name: tensor for tensor in graph.get_outputs()}
    assert [tensor.name for tensor in declared.output] == [model_spec(model).jars["fp32"].output]
    for tensor in (*declared.input, *declared.output):
        real = given.get(tensor.name) or outputs[tensor.name]
        assert TYPES[model_config_pb2.DataType.Name(tensor.data_type)] == real.type
        # Triton leaves the batch dimension out; a name in the graph is any size, -1 here.
        sizes = [size if isinstance(size, int) else -1 for size in real.shape]
        assert [-1, *tensor.dims] == sizes


@pytest.mark.parametrize("model", sorted(MODELS))
def test_the_server_takes_the_batches_that_the_client_sends(model: str) -> None:
    declared = config(model)
    assert declared.max_batch_size == MAX_ROWS
    assert max(declared.dynamic_batching.preferred_batch_size) <= MAX_ROWS
    assert model_spec(model).max_tokens in BUCKETS
    assert [
        model_config_pb2.ModelInstanceGroup.Kind.Name(g.kind) for g in declared.instance_group
    ] == ["KIND_GPU"]
