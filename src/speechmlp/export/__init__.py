"""Export of models to ONNX: `python -m speechmlp.export`."""
