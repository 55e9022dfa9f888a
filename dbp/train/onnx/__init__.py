"""Convert trained models to ONNX graphs; needs the optional package onnx. Never trains."""
