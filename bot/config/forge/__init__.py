"""The block `forge` of muster.yaml: whose issues become pull requests."""
