"""The training loop, evaluation, checkpoints, reports, trained models. Never speaks gRPC."""
