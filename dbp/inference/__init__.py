"""Generated from protos/dbp/inference: the Open Inference Protocol."""
