"""Live parameters: the stored versions of each job, with labels. Never imports dbp.jobs."""
