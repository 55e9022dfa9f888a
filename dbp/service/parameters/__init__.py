"""Read, watch, label and publish parameter versions over gRPC. Stores none itself."""
