"""Jobs: their specification, states, verdicts, labels, safetensors framing. No processes.

A spec passes one pipeline: **parse** (file -> document), **check** (fields of the document ->
JobSpec), **resolve** (components and defaults -> ResolvedSpec), **inspect** (headers of the
data -> Inspected), **build** (-> Setup); ``dbp.train`` has the last two. A ResolvedSpec is
passed on as it is, or as its ``document``, and never converted back.
"""
