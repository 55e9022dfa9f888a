"""The spec of a job: parse a file, check fields, resolve components and defaults.

Reads no samples; knows neither numpy nor the states of jobs.
"""
