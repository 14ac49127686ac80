"""Work that is done at times: each job is a few lines that call a service."""
