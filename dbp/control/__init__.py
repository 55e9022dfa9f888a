"""Run jobs: queue, launch, watch and cancel them; store their parameter versions. No network
code.
"""
