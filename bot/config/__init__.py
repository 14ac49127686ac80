"""muster.yaml: its schema, one module per block, and the folders of an installation."""
