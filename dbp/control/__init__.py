"""Running jobs: queue, launch, observe, cancel, keep versions. Knows nothing of the network."""
