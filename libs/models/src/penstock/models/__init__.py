"""What runs a model: embedders on ONNX Runtime in process or on Triton."""
