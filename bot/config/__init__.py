"""The schema of muster.yaml, one module per block, and the folders of an installation."""
