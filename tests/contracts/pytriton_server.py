"""A real tritonserver with the embedding model behind it, for the contract tests.

Runs in an environment of its own (PyTriton needs numpy < 2), so it imports nothing of Penstock:
python pytriton_server.py MODEL ONNX WORKSPACE HTTP_PORT GRPC_PORT METRICS_PORT
PyTriton brings the Python backend alone; the graph runs on ONNX Runtime in its callback, under the
same tensor names as in deploy/triton. Prints the sizes of the batches that it was given.
"""

# mypy: disable-error-code="import-not-found, untyped-decorator"

import sys

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def main(model: str, file: str, workspace: str, http: int, grpc: int, metrics: int) -> None:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    @batch
    def infer(**tensors: np.ndarray) -> dict[str, np.ndarray]:
        print(f"batch {tensors['input_ids'].shape}", flush=True)
        return {"last_hidden_state": session.run(["last_hidden_state"], tensors)[0]}

    dim = session.get_outputs()[0].shape[-1]
    config = TritonConfig(
        http_port=http, grpc_port=grpc, metrics_port=metrics, http_address="127.0.0.1",
        grpc_address="127.0.0.1", log_verbose=0,
    )  # fmt: skip
    with Triton(config=config, workspace=workspace) as triton:
        triton.bind(
            model_name=model,
            infer_func=infer,
            inputs=[
                Tensor(name=given.name, dtype=np.int64, shape=(-1,))
                for given in session.get_inputs()
            ],
            outputs=[Tensor(name="last_hidden_state", dtype=np.float32, shape=(-1, dim))],
            config=ModelConfig(
                max_batch_size=64,
                batcher=DynamicBatcher(
                    preferred_batch_size=[16, 32, 64], max_queue_delay_microseconds=5_000
                ),
            ),
            strict=True,
        )
        triton.serve()


if __name__ == "__main__":
    name, onnx, folder, *ports = sys.argv[1:]
    main(name, onnx, folder, *map(int, ports))
