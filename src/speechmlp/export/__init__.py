"""Export of models to ONNX: `speechmlp export`."""
