"""The only meeting point: one module per job, each a function that reads like the job's description."""
