"""What a job is: the spec, its one validation, its states, and the bytes of its parameters."""
