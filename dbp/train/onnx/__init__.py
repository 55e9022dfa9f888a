"""Trained models as ONNX graphs. Needs the package onnx; imported only when asked for."""
