"""The Open Inference Protocol over gRPC, answered from parameter versions."""
