"""The specification of a job, its validation, its states, and safetensors framing."""
