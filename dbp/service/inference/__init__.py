"""The Open Inference Protocol over gRPC, answered from stored versions. Never trains."""
